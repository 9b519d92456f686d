"""Name the exit codes of all commands, and report why one could not run."""

from __future__ import annotations

import sys

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


def fail(command: str, error: Exception | str) -> int:
    """Print why `adalora COMMAND` could not run, and return the exit code 2."""
    from adalora_core.config.findings import ConfigError
    from adalora_core.floor.escaping import visible

    # The lines of a report hold no line break of the file; another message may hold one.
    if isinstance(error, ConfigError):
        lines = ["the configuration has errors", *str(error).split("\n")]
    else:
        lines = [in_one_line(error)]
    shown = "\n".join(visible(line) for line in lines)
    print(f"adalora {visible(command)}: {shown}", file=sys.stderr)
    return CANNOT_RUN


def in_one_line(error: Exception | str) -> str:
    """Return the message of an error, with the name of its file."""
    if isinstance(error, OSError) and error.strerror is not None:
        # Without the error number, which helps nobody.
        place = "" if error.filename is None else f"{error.filename}: "
        return f"{place}{error.strerror}"
    return str(error)
