"""Exit codes of all subcommands."""

from __future__ import annotations

FINE = 0
"""No finding at or above the fail level."""

FINDINGS = 1
"""Findings; content that cannot be parsed is one."""

CANNOT_RUN = 2
"""Wrong usage, a missing or unreadable file, or nothing to check."""

INTERRUPTED = 130
"""Stopped from the keyboard: 128 plus the number of SIGINT, as in a shell."""

TERMINATED = 143
"""Ended by another program: 128 plus the number of SIGTERM."""
