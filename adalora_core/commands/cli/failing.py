"""Report why a command could not run: in one line, or as the report on a configuration."""

from __future__ import annotations

import sys

from adalora_core.commands.cli.exit_codes import CANNOT_RUN


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
