"""Check or fix all files of one run of `adalora check`."""

from __future__ import annotations

import codecs
import errno
import os
import re
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adalora_core.checker.documents import read_bytes
from adalora_core.checker.pipeline import CheckOptions, parse_version
from adalora_core.checker.pipeline.inspection import Inspector
from adalora_core.checker.pipeline.suppression import Selection
from adalora_core.checker.reports import Examined, Notice, Outcome, Report
from adalora_core.checker.reports.text import left_out_phrase
from adalora_core.commands.cli.console import (
    fail,
    in_one_line,
    is_terminal,
    parse_limits,
    print_bytes,
    print_text,
    wants_colour,
)
from adalora_core.commands.cli.files import NO_NAME, STDIN, Target, rewrite, targets
from adalora_core.commands.cli.settings import EXCLUDED, POLICY_METHODS, SearchExclusions
from adalora_core.commands.session import OF_A_CHECK, SESSION
from adalora_core.config.findings import SEVERITIES
from adalora_core.floor.errors import PolicyError
from adalora_core.floor.escaping import visible
from adalora_core.floor.places import from_pointer

if TYPE_CHECKING:
    from argparse import Namespace

    from adalora_core.config.findings import Diagnostic

MOST_FINDINGS, MOST_CHARACTERS, LONGEST = 10_000, 64 << 20, 4 << 20
"""The most errors of a run, as many other findings, and the size of all texts, and of one, of which
a report may show parts; an answer of a worker has room for it."""


def inspector_of(options: Namespace) -> Inspector:
    """Return what checks each file of a run.

    Raises:
        ValueError: an option has a wrong value, or the policy cannot be used.
        OSError: the policy cannot be read.
    """
    from_pointer(options.key or "")
    limits, bounds = parse_limits(options.limit, OF_A_CHECK)
    SESSION.set_bounds(bounds)
    policy: Any = None
    if options.policy is not None:
        from adalora_core.checker.pipeline.policy import load_policy

        policy = load_policy(Path(options.policy), _tree_of_policy(options))
        if options.policy_methods is not None:
            policy.methods = frozenset(POLICY_METHODS[options.policy_methods])
    check = CheckOptions(
        options.runtime,
        options.strict_keys,
        options.strict_types,
        parse_version(options.peft_version),
        limits,
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
class Tally:
    """What the files of a run gave, or one of them.

    Args:
        previews: with `--diff`, the reports that the files would get after `--fix`.
        notices: what the reports for programs hold besides findings.
    """

    reports: list[Report] = field(default_factory=list)
    failed: bool = False
    skipped: int = 0
    too_large: list[str] = field(default_factory=list)
    previews: list[Report] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Add the tally of further files."""
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))


_PASSED = Tally(skipped=1)
"""What a file without a configuration gives."""


@dataclass
class Job:
    """One run of the command over all its files."""

    options: Namespace
    inspector: Inspector
    tally: Tally = field(default_factory=Tally, init=False)
    left: int = field(default=0, init=False)
    """The number of files that were not read, since others exceeded a bound."""
    counts: Counter[bool] = field(default_factory=Counter, init=False)
    text_room: int = field(default=MOST_CHARACTERS, init=False)
    unshown: int = field(default=0, init=False)
    unshown_fails: bool = field(default=False, init=False)

    def notify(
        self, error: Exception | str, source: str | None = None, *, fails: bool = True
    ) -> None:
        """Print at once what a reader must know, and keep it for the reports."""
        self.tally.failed |= fails
        if isinstance(error, OSError) and isinstance(error.filename, str):
            source = source or error.filename
        self._note(in_one_line(error), source, fails=fails)

    def _note(self, message: str, source: str | None = None, *, fails: bool) -> None:
        self.tally.notices.append(Notice(message, source, fails))
        if SESSION.is_new(message):
            fail("check", message)

    def run(self) -> Outcome:
        """Check every file; report one that cannot be read at once and go on with the others."""
        names: list[str] = []
        options = self.options
        exclusions = SearchExclusions(all_files=options.all_files)
        found = targets(options.paths, options.exclude, options.follow_links, exclusions)
        for target in found:
            if target.problem is not None:
                if not (target.is_unmatched and options.allow_empty):
                    self.notify(target.problem, fails=not target.may_pass)
                continue
            names.append(target.name)
            self._add(target)
        SESSION.end_of_files()
        left_out = exclusions.counts(names)
        tally = self.tally
        self._notify_of_the_whole(left_out)
        return Outcome(
            tuple(tally.reports),
            tally.skipped,
            len(tally.too_large),
            colour=wants_colour(options.color),
            fail_level=options.fail_level,
            fixing=options.fix,
            settings_file=options.project.file,
            settings=options.project.values,
            left_out=left_out,
            is_quiet=options.quiet,
            notices=tuple(tally.notices),
            fails_besides=bool(self.left or self.unshown_fails),
        )

    def _add(self, target: Target) -> None:
        """Add what a file gives, from an earlier worker if that has read the file."""
        found: Tally | None = SESSION.result_of(target.name)
        if found is None and (reason := SESSION.beyond.get(target.name)) is not None:
            name = self._shown_name(target)
            found = Tally([self.inspector.beyond(name, reason)])
            if self.options.diff:  # which prints no findings
                self.unshown_fails = True
                self._note(f"{name}: {found.reports[0].diagnostics[0].message}", name, fails=True)
        elif found is None and SESSION.is_full:
            self.left += 1
            return
        elif found is None:
            SESSION.begin(target.name, may_retry=target.name != STDIN)
            found = self._tally_of(target)
            found.reports = [
                replace(report, text=None) if len(report.text or "") > LONGEST else report
                for report in found.reports
            ]
            SESSION.done(None if found == _PASSED else found)
        found.reports = [self._shortened(report) for report in found.reports]
        self.tally.add(found)

    def _shortened(self, report: Report) -> Report:
        """Return a report without the findings for which a run has no room."""
        kept: list[Diagnostic] = []
        gone: list[Diagnostic] = []
        for each in report.diagnostics:
            is_error = each.severity == "error"  # which no number of warnings hides
            self.counts[is_error] += 1
            (gone if self.counts[is_error] > MOST_FINDINGS else kept).append(each)
        self.unshown += len(gone)
        failing = SEVERITIES[: SEVERITIES.index(self.options.fail_level) + 1]
        self.unshown_fails |= any(each.severity in failing for each in gone)
        self.text_room -= len(report.text or "")
        text = report.text if self.text_room >= 0 else None
        if gone or text is not report.text:
            return replace(report, diagnostics=tuple(kept), text=text)
        return report

    def _tally_of(self, target: Target) -> Tally:
        whole, self.tally = self.tally, Tally()
        try:
            self.tally.reports += self._report(target)
        except (PolicyError, MemoryError):
            raise
        except Exception as error:  # noqa: BLE001 - one bad file never ends the run
            is_expected = isinstance(error, OSError)
            message = f"{target.name}: not checked: {error!r}"
            self.notify(error if is_expected else message, target.name)
        found, self.tally = self.tally, whole
        return found

    def _notify_of_the_whole(self, left_out: Mapping[str, int]) -> None:
        """Print warnings about the run as a whole."""
        tally = self.tally
        if tally.too_large:
            number, first = len(tally.too_large), tally.too_large[0]
            message = f"too large to look into: {first}" + f" and {number - 1} more" * (number > 1)
            self.notify(message, first, fails=False)
        if self.unshown:
            message = (
                f"{self.unshown} findings beyond the first {MOST_FINDINGS} errors and as many "
            )
            message += "others are not shown"
            self._note(message, fails=self.unshown_fails)
        if self.left:
            files = f"{self.left} file{'s' * (self.left > 1)}"
            message = f"not checked: {files}, since others exceed a bound"
            self._note(message, fails=True)
        is_empty = not (tally.reports or tally.skipped or tally.too_large or self.left)
        # Hooks name files one by one, of which none may be left that is not excluded.
        are_files = all(Path(path).is_file() for path in self.options.paths)
        may_be_empty = self.options.allow_empty or (self.options.ignore_unmatched and are_files)
        if is_empty and not tally.failed and not may_be_empty:
            shown = left_out_phrase(left_out)
            if any(EXCLUDED not in what for what in left_out):
                shown += ": pass --all-files to check them"
            message = "no file matched, so nothing was checked; pass --allow-empty if that is right"
            self.notify(f"{message}; {shown}" if shown else message)

    def _shown_name(self, target: Target) -> str:
        """Return the name of a file in reports."""
        return self.options.stdin_filename or NO_NAME if target.name == STDIN else target.name

    def _report(self, target: Target) -> list[Report]:
        """Return the report on a file; none if it holds no configuration and need not hold one."""
        limits = self.inspector.check.limits
        if target.name == STDIN:
            name = self._shown_name(target)
            if sys.stdin is None:
                raise OSError(errno.EBADF, "standard input is closed")
            is_notebook = self.inspector.format_of(name) == "notebook"
            room = limits.bytes_to_read(has_outputs=is_notebook)
            with SESSION.waiting():
                raw = sys.stdin.buffer.read(room + 1)
        else:
            name = target.name
            raw = read_bytes(target.name, limits, self.inspector.format)
        if self.inspector.leaves_out(raw, name, was_named=target.was_named):
            self.tally.too_large.append(target.name)
            self._pass_through(target, raw)
            return []
        found = self.inspector.inspect(raw, name, was_named=target.was_named)
        if found is None:
            self._pass_through(target, raw)
            self.tally.skipped += 1
            return []
        if self.options.fix or self.options.diff:
            found = self._fix(target, name, raw, found)
        return [found.report]

    def _fix(self, target: Target, name: str, raw: bytes, found: Examined) -> Examined:
        """Show or write the fixed file, and return what is left to report."""
        unsafe = self.options.unsafe_fixes
        better = self.inspector.fix(found, name, was_named=target.was_named, unsafe=unsafe)
        if self.options.diff:
            self.tally.previews.append(replace(better.report, text=None))
            mark = "\ufeff" if raw.startswith(codecs.BOM_UTF8) else ""
            old, new = found.document.text, better.document.text
            _show_difference(name, mark + old, mark + new, found.document.encoding)
            return found
        if target.name == STDIN:
            self._pass_through(target, better.document.raw)
        elif better.document.raw != raw:
            try:
                rewrite(target, raw, better.document.raw, self.inspector.check.limits)
            except OSError as error:
                self.notify(error, name)
                return found
        return better

    def _pass_through(self, target: Target, content: bytes) -> None:
        """Print standard input after a change; the part beyond the size limit is unchanged."""
        if target.name == STDIN and self.options.fix and not self.options.diff:
            print_bytes(content)
            while rest := sys.stdin.buffer.read(self.inspector.check.limits.file_bytes):
                print_bytes(rest)


def _show_difference(name: str, old: str, new: str, encoding: str) -> None:
    difference = unified_diff(name, old, new)
    if is_terminal():
        # For people, not for patch: control characters are escaped.
        print_text("".join(f"{visible(line, None)}\n" for line in difference.split("\n")[:-1]))
    else:
        *names, lines = difference.split("\n", 2)
        head = "".join(f"{each}\n" for each in names).encode("utf-8", "surrogateescape")
        print_bytes(head + lines.encode(encoding, "surrogateescape"))


def unified_diff(name: str, old: str, new: str) -> str:
    """Return the difference for `patch -p0` and `git apply -p0`; empty if there is none.

    Line ends are kept. A last line without a line end is marked as these tools require.
    """
    import difflib  # slow to import

    # A tab marks the end of a name that holds blanks, as in git.
    shown = visible(name, None) + ("\t" if " " in name else "")
    # str.splitlines would also split at characters inside of strings.
    before, after = ([line for line in re.split(r"(?<=\n)", each) if line] for each in (old, new))
    lines = difflib.unified_diff(before, after, shown, shown)
    end = "\n\\ No newline at end of file\n"
    return "".join(line if line.endswith("\n") else line + end for line in lines)
