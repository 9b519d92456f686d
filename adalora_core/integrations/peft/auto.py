"""Importing this calls `install()`: one line for a script that is not changed further."""

from __future__ import annotations

from adalora_core.integrations.peft.bridge import install

install()
