"""Call `install()` on import, so that a script needs this import and no other change."""

from __future__ import annotations

from adalora_core.integrations.peft.bridge import install

install()
