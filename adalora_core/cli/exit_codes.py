"""What the command's exit codes mean, for all subcommands."""

from __future__ import annotations

FINE = 0
"""Nothing at or above the fail level."""

FINDINGS = 1
"""Findings, unparseable content included."""

CANNOT_RUN = 2
"""Usage, a missing or unreadable file, nothing to check."""

INTERRUPTED = 130
"""Stopped from the keyboard, as shells count it."""
