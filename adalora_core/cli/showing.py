"""Show what `adalora check` would do: the files that it reads, or the settings that apply."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

from adalora_core.cli.check_options import given
from adalora_core.cli.exit_codes import CANNOT_RUN, FINE
from adalora_core.cli.failing import fail
from adalora_core.cli.files import STDIN, targets
from adalora_core.cli.output import print_text
from adalora_core.cli.search_exclusions import SearchExclusions
from adalora_core.cli.settings import KEYS
from adalora_core.contract.reports.escaping import visible
from adalora_core.contract.reports.summary import left_out_phrase
from adalora_core.regular_files import open_regular_file

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence


def show(options: Namespace, argv: Sequence[str]) -> int:
    """Print what the options ask for, and return the exit code."""
    problem = options.project.problem
    if problem is not None:
        return fail("check", problem)
    return _show_settings(options, argv) if options.show_settings else _show_files(options)


def _show_files(options: Namespace) -> int:
    """Print one name per line; return 2 if one cannot be read, or if there is none."""
    exclusions = SearchExclusions(all_files=options.all_files)
    names: list[str] = []
    failed = False
    for target in targets(options.paths, options.exclude, options.follow_links, exclusions):
        try:
            if target.problem is not None:
                raise target.problem
            if target.name != STDIN:
                os.close(open_regular_file(target.name))
            names.append(target.name)
        except OSError as error:
            failed |= not target.may_pass
            fail("check", error)
    print_text("".join(f"{visible(name, None)}\n" for name in names))
    left_out = left_out_phrase(exclusions.counts(names))
    if left_out and not options.quiet:
        print(left_out, file=sys.stderr)
    if not names and not failed and not options.allow_empty:
        return fail("check", "no file matched; pass --allow-empty if that is right")
    return CANNOT_RUN if failed else FINE


def _show_settings(options: Namespace, argv: Sequence[str]) -> int:
    """Print every setting as TOML, with the place where it is set."""
    project, on_command_line = options.project, given(argv)
    rows = []
    for key in KEYS:
        written = project.values.get(key)
        asked = _as_in_a_file(key, on_command_line[key.replace("-", "_")])
        if asked is not None and key not in _JOINED:
            written = None
        sources = {project.file: written, "command line": asked}
        sources = {place: value for place, value in sources.items() if value is not None}
        value = _joined(key, list(sources.values()) or [getattr(options, key.replace("-", "_"))])
        text = f"# {key}" if value is None else f"{key} = {_toml(value)}"
        rows.append((text, " and ".join(map(str, sources)) or "default"))
    width = max(len(text) for text, _ in rows if len(text) <= _WIDEST)
    lines = [f"# settings file: {project.file or 'none'}", "[tool.adalora]"]
    lines += [f"{text:<{width}}  # {place}" for text, place in rows]
    print_text("".join(f"{visible(line, None)}\n" for line in lines))
    return FINE


_WIDEST = 40
"""Longer settings do not push the places of the others to the right."""
_JOINED = frozenset({"exclude", "limit", "per-file-ignores"})
"""The options of the command line that are added to those of the file."""


def _as_in_a_file(key: str, value: Any) -> Any:
    """Return an option's value in the form of the file."""
    if key != "per-file-ignores" or value is None:
        return value
    pairs = [each.rpartition(":") for each in value]
    return {pattern: words.split(",") for pattern, _, words in pairs}


def _joined(key: str, values: list[Any]) -> Any:
    """Return what the file and the command line hold together."""
    if key not in _JOINED:
        return values[0]
    if key == "per-file-ignores":
        return dict(pair for value in values if value for pair in value.items())
    return [each for value in values for each in value]


def _toml(value: Any) -> str:
    """Return a setting as an inline value of TOML; its strings are those of JSON."""
    if isinstance(value, dict):
        pairs = [f"{json.dumps(key)} = {_toml(each)}" for key, each in value.items()]
        return f"{{ {', '.join(pairs)} }}" if pairs else "{}"
    return json.dumps(value)
