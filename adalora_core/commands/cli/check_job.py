"""Check, fix or suppress in all files of one run of `adalora check`."""

from __future__ import annotations

import codecs
import errno
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adalora_core.checker.documents import read_bytes
from adalora_core.checker.pipeline import CheckOptions, parse_version
from adalora_core.checker.pipeline.inspection import Inspector
from adalora_core.checker.pipeline.selection import Selection
from adalora_core.checker.reports import Examined, Notice, Outcome, Report
from adalora_core.checker.reports.text import left_out_phrase
from adalora_core.commands.cli.files import NO_NAME, STDIN, Target, targets
from adalora_core.commands.cli.output import (
    fail,
    in_one_line,
    is_terminal,
    print_bytes,
    print_text,
    wants_colour,
)
from adalora_core.commands.cli.search_exclusions import EXCLUDED, SearchExclusions
from adalora_core.floor.errors import PolicyError
from adalora_core.floor.escaping import visible
from adalora_core.floor.limits import Limits
from adalora_core.floor.places import from_pointer
from adalora_core.floor.progress import with_progress

if TYPE_CHECKING:
    from argparse import Namespace


def inspector_of(options: Namespace) -> Inspector:
    """Return what checks each file of a run.

    Raises:
        ValueError: an option has a wrong value, or the policy cannot be used.
        OSError: the policy cannot be read.
    """
    from_pointer(options.key or "")
    policy: Any = None
    if options.policy is not None:
        from adalora_core.checker.pipeline.policy import load_policy

        policy = load_policy(Path(options.policy), _tree_of_policy(options))
    check = CheckOptions(
        options.runtime,
        options.strict_keys,
        options.strict_types,
        parse_version(options.peft_version),
        Limits.parse(options.limit),
        policy,
    )
    return Inspector(
        check,
        Selection.of(options.select, options.ignore, options.per_file_ignores),
        options.key,
        options.layout,
        options.format,
        options.ignore_unmatched,
        not options.no_suppressions,
    )


def _tree_of_policy(options: Namespace) -> Path | None:
    """Return the folder that holds all files of a policy; None: the user named one elsewhere."""
    if options.policy == options.project.defaults.get("policy"):
        folder: Path = options.project.folder
        return folder
    here, path = Path.cwd(), Path(os.path.abspath(options.policy))  # noqa: PTH100 - keeps links
    return here if path.is_relative_to(here) else None


@dataclass
class Job:
    """One run of the command over all its files."""

    options: Namespace
    inspector: Inspector
    failed: bool = False
    skipped: int = 0
    too_large: list[str] = field(default_factory=list, init=False)
    previews: list[Report] = field(default_factory=list, init=False)
    """With `--diff`: the reports that the files would get after `--fix`."""
    ignored: list[int] = field(default_factory=list, init=False)
    """With `--add-ignores`: how many findings were suppressed, for each changed file."""
    notices: list[Notice] = field(default_factory=list, init=False)
    """What the reports for programs hold besides findings."""

    def notify(
        self, error: Exception | str, source: str | None = None, *, fails: bool = True
    ) -> None:
        """Print at once what a reader must know, and keep it for the reports."""
        self.failed |= fails
        if isinstance(error, OSError) and isinstance(error.filename, str):
            source = source or error.filename
        self.notices.append(Notice(in_one_line(error), source, fails))
        fail("check", error)

    def run(self) -> Outcome:
        """Check every file; report one that cannot be read at once and go on with the others."""
        reports: list[Report] = []
        names: list[str] = []
        searched = set()
        options = self.options
        exclusions = SearchExclusions(all_files=options.all_files)
        found = targets(options.paths, options.exclude, options.follow_links, exclusions)
        for target in with_progress(found, "file"):
            if target.problem is not None:
                if target.is_unmatched and options.allow_empty:
                    continue
                self.notify(target.problem, fails=not target.may_pass)
                continue
            names.append(target.name)
            if not target.was_named:
                searched.add(target.name)
            try:
                reports += self._report(target)
            except PolicyError:
                raise
            except Exception as error:  # noqa: BLE001 - one bad file never ends the run
                is_expected = isinstance(error, OSError)
                message = f"{target.name}: not checked: {error!r}"
                self.notify(error if is_expected else message, target.name)
        left_out = exclusions.counts(names)
        self._notify_of_the_whole(reports, left_out)
        return Outcome(
            tuple(self.inspector.with_unused_ignores(reports, searched)),
            self.skipped,
            len(self.too_large),
            colour=wants_colour(options.color),
            fail_level=options.fail_level,
            fixing=options.fix,
            settings_file=options.project.file,
            settings=options.project.values,
            left_out=left_out,
            is_quiet=options.quiet,
            notices=tuple(self.notices),
        )

    def _notify_of_the_whole(self, reports: Sequence[Report], left_out: Mapping[str, int]) -> None:
        """Notify of what only the whole run shows."""
        if self._searched_all():
            for pattern in self.inspector.selection.patterns_without_file(reports):
                self.notify(f"--per-file-ignores {pattern}: fits no checked file", fails=False)
        if self.too_large:
            number, first = len(self.too_large), self.too_large[0]
            message = f"too large to look into: {first}" + f" and {number - 1} more" * (number > 1)
            self.notify(message, first, fails=False)
        is_empty = not (reports or self.skipped or self.too_large)
        if is_empty and not self.failed and not self._may_be_empty():
            self.notify(_nothing_checked(left_out))

    def _searched_all(self) -> bool:
        """Return whether the run searched the whole folder to which the settings apply."""
        folder = self.options.project.folder or Path.cwd()
        if self.options.settings is not None:
            folder = Path.cwd()
        tops = [Path(os.path.realpath(path)) for path in self.options.paths if path != STDIN]
        return any(folder.resolve().is_relative_to(top) for top in tops)

    def _may_be_empty(self) -> bool:
        """Return whether the run may check nothing.

        What names files one by one, as hooks do, may have none left that is not excluded.
        """
        are_files = all(Path(path).is_file() for path in self.options.paths)
        return bool(self.options.allow_empty or (self.options.ignore_unmatched and are_files))

    def _report(self, target: Target) -> list[Report]:
        """Return the report on a file; none if it holds no configuration and need not hold one."""
        limits = self.inspector.check.limits
        if target.name == STDIN:
            name = self.options.stdin_filename or NO_NAME
            if sys.stdin is None:
                raise OSError(errno.EBADF, "standard input is closed")
            is_notebook = self.inspector.format_of(name) == "notebook"
            room = limits.bytes_to_read(has_outputs=is_notebook)
            raw = sys.stdin.buffer.read(room + 1)
        else:
            name = target.name
            raw = read_bytes(target.name, limits, self.inspector.format)
        if self.inspector.leaves_out(raw, name, was_named=target.was_named):
            self.too_large.append(target.name)
            self._pass_through(target, raw)
            return []
        found = self.inspector.inspect(raw, name, was_named=target.was_named)
        if found is None:
            self._pass_through(target, raw)
            self.skipped += 1
            return []
        if self.options.fix or self.options.diff:
            found = self._fix(target, name, raw, found)
        elif self.options.add_ignores:
            better = self.inspector.add_ignores(found, name, was_named=target.was_named)
            before = len(found.report.suppressed)
            found = self._written(target, name, raw, found, better)
            if number := len(found.report.suppressed) - before:
                self.ignored.append(number)
        return [found.report]

    def _fix(self, target: Target, name: str, raw: bytes, found: Examined) -> Examined:
        """Show or write the fixed file, and return what is left to report."""
        unsafe = self.options.unsafe_fixes
        better = self.inspector.fix(found, name, was_named=target.was_named, unsafe=unsafe)
        if self.options.diff:
            self.previews.append(better.report)
            mark = "\ufeff" if raw.startswith(codecs.BOM_UTF8) else ""
            old, new = found.document.text, better.document.text
            _show_difference(name, mark + old, mark + new)
            return found
        return self._written(target, name, raw, found, better)

    def _written(
        self, target: Target, name: str, raw: bytes, found: Examined, better: Examined
    ) -> Examined:
        """Write a better text, and return what is in the file then."""
        if target.name == STDIN:
            self._pass_through(target, better.document.raw)
        elif better.document.raw != raw:
            from adalora_core.commands.cli.rewriting import rewrite

            try:
                rewrite(target, raw, better.document.raw, self.inspector.check.limits)
            except OSError as error:
                self.notify(error, name)
                return found
        return better

    def _pass_through(self, target: Target, content: bytes) -> None:
        """Print standard input after a change; the part beyond the size limit is unchanged."""
        writes_text = self.options.fix or self.options.add_ignores
        if target.name == STDIN and writes_text and not self.options.diff:
            print_bytes(content)
            while rest := sys.stdin.buffer.read(self.inspector.check.limits.file_bytes):
                print_bytes(rest)


def _nothing_checked(left_out: Mapping[str, int]) -> str:
    shown = left_out_phrase(left_out)
    if any(EXCLUDED not in what for what in left_out):
        shown += ": pass --all-files to check them"
    message = "no file matched, so nothing was checked; pass --allow-empty if that is right"
    return f"{message}; {shown}" if shown else message


def _show_difference(name: str, old: str, new: str) -> None:
    from adalora_core.commands.cli.rewriting import unified_diff

    difference = unified_diff(name, old, new)
    if is_terminal():
        # For people, not for patch: control characters are escaped.
        print_text("".join(f"{visible(line, None)}\n" for line in difference.split("\n")[:-1]))
    else:
        print_bytes(difference.encode("utf-8", "surrogateescape"))
