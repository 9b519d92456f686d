"""Judge the regular expressions of one document, within limits on all of them together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adalora_core.floor.limits import DEFAULT_LIMITS

if TYPE_CHECKING:
    from adalora_core.config.fields.regexes import Judgement

MOST_CLASSES = 64
"""The most character classes of all expressions that are compiled: each costs up to 4 ms."""


class Expressions:
    """The expressions of a document that were judged so far.

    Args:
        longest: characters of all expressions together; the rest is not even parsed.
    """

    def __init__(self, longest: int = DEFAULT_LIMITS.regex_length) -> None:
        self._longest = longest
        self._characters = 0
        self._classes = 0
        self._judged: dict[str, Judgement] = {}

    def judge(self, pattern: str) -> Judgement:
        """Judge a regular expression, once for all rules."""
        if pattern not in self._judged:
            self._judged[pattern] = self._new(pattern)
        return self._judged[pattern]

    def _new(self, pattern: str) -> Judgement:
        # Imported for an expression only: the module takes time.
        from adalora_core.config.fields.regexes import Judgement, judge

        if len(pattern) <= self._longest < self._characters + len(pattern):
            return Judgement(too_large=f"all expressions have more than {self._longest} characters")
        judgement = judge(pattern, self._longest, MOST_CLASSES - self._classes)
        if self._classes and judgement.classes > MOST_CLASSES - self._classes:
            excess = f"all expressions have more than {MOST_CLASSES} character classes"
            return Judgement(too_large=excess)
        if judgement.too_large is not None:
            return judgement
        self._characters += len(pattern)
        self._classes += judgement.classes
        return judgement
