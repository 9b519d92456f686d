"""Call `install()` on import, so that a script needs one more line only."""

from __future__ import annotations

from adalora_core.integrations.peft.bridge import install

install()
