"""Select the findings to report: by code, family or name of the rule, and by file."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

from adalora_core.checker.rules import BY_CODE, RULES

if TYPE_CHECKING:
    from adalora_core.checker.reports import Report


WILDCARDS = frozenset("*?[")
"""Characters that turn a name into a pattern."""


def fits(name: str, pattern: str) -> bool:
    """Return whether a file's name, or its end behind a slash, matches a pattern with wildcards.

    An absolute pattern is compared with the absolute path.
    """
    if Path(pattern).is_absolute():
        # Path.resolve would follow links, Path.absolute would keep `..`.
        return fnmatch(Path(os.path.abspath(name)).as_posix(), pattern)  # noqa: PTH100
    posix = Path(name).as_posix()
    return fnmatch(posix, pattern) or fnmatch(posix, f"*/{pattern}")


@dataclass(frozen=True, slots=True)
class FileIgnore:
    """Rules that are not reported in some files.

    Args:
        pattern: matches the files.
        word: the rules as the user wrote them.
        codes: the codes of these rules.
    """

    pattern: str
    word: str
    codes: frozenset[str]

    @classmethod
    def parse(cls, settings: Iterable[str]) -> tuple[FileIgnore, ...]:
        """Read `PATTERN:CODES` settings of `--per-file-ignores`.

        Raises:
            ValueError: a setting has another form, or names no rule or every rule.
        """
        found = []
        for setting in settings:
            pattern, _, words = setting.rpartition(":")
            named = [word.strip() for word in words.split(",") if word.strip()]
            if not pattern or not named:
                raise ValueError(
                    "--per-file-ignores: expected PATTERN:CODES such as tests/*.json:ADA207, "
                    f"got {setting!r}"
                )
            found += [cls(pattern, word, _ignored([word])) for word in named]
        return tuple(found)


@dataclass(frozen=True, slots=True)
class Selection:
    """The codes of the rules to report, with exceptions for some files."""

    codes: frozenset[str]
    per_file: tuple[FileIgnore, ...] = ()

    @classmethod
    def of(
        cls,
        select: Iterable[str] = (),
        ignore: Iterable[str] = (),
        per_file_ignores: Iterable[str] = (),
    ) -> Selection:
        """Select rules; a word is a code (ADA202), the beginning of codes (ADA2) or a name.

        Rules that report that nothing could be checked are always selected.

        Args:
            select: the rules to report; empty: all rules.
            ignore: rules to leave out, also of `select`.
            per_file_ignores: `PATTERN:CODES`, rules to leave out in files that match.

        Raises:
            ValueError: a word names no rule, or a rule that cannot be ignored.
        """
        chosen = _codes(select) or frozenset(rule.code for rule in RULES)
        always = frozenset(rule.code for rule in RULES if not rule.can_be_ignored)
        codes = (chosen - _ignored(ignore)) | always
        return cls(codes, FileIgnore.parse(per_file_ignores))

    def patterns_without_file(self, reports: Iterable[Report]) -> list[str]:
        """Return the patterns of `per_file` that fit no file of these reports."""
        names = [report.source for report in reports if report.source is not None]
        patterns = dict.fromkeys(entry.pattern for entry in self.per_file)
        return [each for each in patterns if not any(fits(name, each) for name in names)]

    def apply(self, report: Report) -> Report:
        """Return the report with the selected findings.

        A document in which nothing was checked keeps all its findings: it must not pass.
        """
        if not report.was_checked:
            return report
        ignored: set[str] = set()
        for entry in self.per_file:
            if report.source is not None and fits(report.source, entry.pattern):
                ignored |= entry.codes
        counting = [d for d in report.diagnostics if d.code in self.codes]
        kept = tuple(d for d in counting if d.code not in ignored)
        if len(kept) == len(report.diagnostics):
            return report
        gone = tuple(d for d in counting if d.code in ignored)
        return dataclasses.replace(report, diagnostics=kept, suppressed=(*report.suppressed, *gone))


def _ignored(words: Iterable[str]) -> frozenset[str]:
    """Return the codes of the rules to leave out.

    Raises:
        ValueError: a word names no rule, every rule, or a rule that cannot be ignored.
    """
    found: set[str] = set()
    for word in words:
        codes = _codes([word])
        if len(codes) == len(RULES):
            raise ValueError(f"{word!r} names every rule; to ignore whole files use --exclude")
        if not any(BY_CODE[code].can_be_ignored for code in codes):
            raise ValueError(
                f"{word} cannot be ignored: a file in which nothing could be checked must not "
                "pass; to ignore the file use --exclude"
            )
        found |= {code for code in codes if BY_CODE[code].can_be_ignored}
    return frozenset(found)


def unknown_rule(word: str) -> str:
    """Return the message about an unknown rule, with the one that was probably meant."""
    from difflib import get_close_matches  # slow to import, and most words are right

    known = [name for rule in RULES for name in (rule.name, rule.code.lower())]
    is_number = word[3:].isdecimal()  # another number is another rule
    near = [] if is_number else get_close_matches(word.lower(), known, n=1, cutoff=0.75)
    meant = BY_CODE.get(near[0].upper()) if near else None
    proposal = f" (did you mean {meant.code if meant else near[0]}?)" if near else ""
    return f"there is no rule {word!r}{proposal}"


def _codes(words: Iterable[str]) -> frozenset[str]:
    found: set[str] = set()
    for word in words:
        fitting = {
            rule.code
            for rule in RULES
            if rule.name == word or (word and rule.code.startswith(word.upper()))
        }
        if not fitting:
            raise ValueError(
                f"{unknown_rule(word)}; expected a code such as ADA202, the beginning of codes "
                "such as ADA2, or a name such as no-budgeting-phase"
            )
        found |= fitting
    return frozenset(found)
