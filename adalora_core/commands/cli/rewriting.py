"""Show or write what `--fix` and `--add-ignores` change in a file, and report the latter."""

from __future__ import annotations

import contextlib
import difflib
import errno
import json
import os
import re
import stat
import sys
from collections.abc import Mapping, Sequence
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from adalora_core.checker.documents import read_bytes
from adalora_core.checker.documents.document import format_of
from adalora_core.checker.pipeline.suppression import unsuppressible
from adalora_core.checker.rules import BY_CODE
from adalora_core.commands.cli.files import NO_NAME, Target
from adalora_core.floor.escaping import visible
from adalora_core.floor.files import write_file

if TYPE_CHECKING:
    from argparse import Namespace

    from adalora_core.checker.reports import Outcome
    from adalora_core.floor.limits import Limits

_WRITABLE = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH


def unified_diff(name: str, old: str, new: str) -> str:
    """Return the difference for `patch -p0` and `git apply -p0`; empty if there is none.

    Line ends are kept. A last line without a line end is marked as these tools require.
    """
    # A tab marks the end of a name that holds blanks, as in git.
    shown = visible(name, None) + ("\t" if " " in name else "")
    # str.splitlines would also split at characters inside of strings.
    before, after = ([line for line in re.split(r"(?<=\n)", each) if line] for each in (old, new))
    lines = difflib.unified_diff(before, after, shown, shown)
    end = "\n\\ No newline at end of file\n"
    return "".join(line if line.endswith("\n") else line + end for line in lines)


def rewrite(target: Target, old: bytes, new: bytes, limits: Limits) -> None:
    """Replace the content of a file, whole or not at all; keep its mode and owner.

    Raises:
        OSError: a link leads from its tree to the file, or the file is read-only, changed since the
            check, or cannot be written; it keeps its content.
    """
    tree = os.path.realpath(target.tree)
    inner = os.path.relpath(os.path.abspath(target.name), os.path.abspath(target.tree))  # noqa: PTH100 - keeps links
    path = Path(tree, inner)
    try:
        # The working folder stays what it is, whatever is put in the place of its name.
        with contextlib.chdir(path.parent):
            if Path.cwd() != path.parent or Path(path.name).is_symlink():
                _refuse(errno.ELOOP, "a link leads to the file; name the file itself")
            _rewrite_here(path.name, old, new, limits)
    except OSError as error:
        raise OSError(error.errno, f"not written: {error.strerror}", target.name) from None


def _rewrite_here(name: str, old: bytes, new: bytes, limits: Limits) -> None:
    # A writable folder allows to replace a read-only file, and root may write any file.
    if not Path(name).stat().st_mode & _WRITABLE or not os.access(name, os.W_OK):
        _refuse(errno.EACCES, "the file is read-only")
    if read_bytes(name, limits, "notebook") != old:  # the format that allows the most
        _refuse(errno.EBUSY, "the file changed while it was checked")
    write_file(Path(name), new)


def _refuse(number: int, why: str) -> NoReturn:
    raise OSError(number, why)


def print_added(ignored: Sequence[int], options: Namespace, outcome: Outcome) -> None:
    """Print to standard error how many findings are suppressed now, and the settings for JSON.

    `ignored` has their number for each changed file, and `outcome` what is left.
    """
    lines = []
    if not outcome.is_quiet:
        findings, files = sum(ignored), len(ignored)
        lines.append(
            f"added ignores for {findings} finding{'s' * (findings != 1)} "
            f"in {files} file{'s' * (files != 1)}"
        )
    lines += _settings_for(_in_json(options, outcome), options)
    if lines:
        print(*[visible(line, None) for line in lines], sep="\n", file=sys.stderr)


def _in_json(options: Namespace, outcome: Outcome) -> dict[str, list[str]]:
    """Return the codes that a setting can ignore in files without comments, by file."""
    found = {}
    for report in outcome.reports:
        codes = {d.code for d in report.diagnostics if not unsuppressible(BY_CODE[d.code], d.code)}
        name = report.source or ""
        is_json = (options.format or format_of(name)) == "json"
        if codes and is_json and report.was_checked and name != NO_NAME:
            found[name] = sorted(codes)
    return found


def _settings_for(codes: Mapping[str, list[str]], options: Namespace) -> list[str]:
    if not codes:
        return []
    file, folder = _place(options)
    lines = [
        f"JSON has no comments; to ignore these findings, write this table to {file}:",
        "[tool.adalora.per-file-ignores]",
    ]
    for name, names in codes.items():
        path = Path(os.path.abspath(name))  # noqa: PTH100 - keeps links
        # With a slash a pattern starts at the folder, and fits this file alone.
        is_inside = path.is_relative_to(folder)
        pattern = f"./{path.relative_to(folder).as_posix()}" if is_inside else path.name
        lines.append(f"{json.dumps(escape(pattern))} = [{', '.join(map(json.dumps, names))}]")
    return lines


def _place(options: Namespace) -> tuple[str, Path]:
    """Return the file of the project's settings, and the folder at which its patterns start."""
    here = Path.cwd()
    if options.settings is not None:
        return options.settings, here
    folders = (here, *here.parents)
    folder = next((each for each in folders if (each / "pyproject.toml").is_file()), here)
    return ("pyproject.toml" if folder == here else str(folder / "pyproject.toml")), folder
