"""Match the regular expressions of one document within a bound of time."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import Literal

from adalora_core.floor.errors import ExpressionError
from adalora_core.floor.expressions.cost import is_cheap

SECONDS_OF_MATCH = 1.0
"""The longest that one match may take."""

SECONDS_OF_DOCUMENT = 4.0
"""The longest that all matches of one document may take together."""

Method = Literal["match", "fullmatch", "search"]
"""The functions of `re` that match."""

_MOST_SHOWN = 60
_REASONS = {
    "RecursionError": "is nested too deep",
    "MemoryError": "needs too much memory",
    "OverflowError": "repeats too often",
}


class Matcher:
    """Match expressions as `re` does, and refuse those that take too long.

    An expression that is cheap in the worst case is matched in this process, any other in a child
    process that ends when its time is over.
    """

    def __init__(self, seconds: float = SECONDS_OF_DOCUMENT) -> None:
        self._left = seconds
        self._late = f"exceeds the {seconds:g} s for all expressions"

    def find(
        self, method: Method, pattern: str, text: str, field: str, group: int | str = 0
    ) -> str | None:
        r"""Return a group of what the function `method` of `re` finds in `text`, or None.

        `field` is the setting that holds the expression; `group` 0 is the whole match.

        Raises:
            re.error: `pattern` is not a regular expression.
            ExpressionError: the match, or all matches so far, take too long.

        Example:
            >>> Matcher().find("search", r"layers\.(\d+)", "model.layers.3.q", "layers_pattern", 1)
            '3'
        """
        begin = time.perf_counter()
        if is_cheap(pattern, len(text), anywhere=method == "search"):
            match = getattr(re, method)(pattern, text)
            found = None if match is None else match[group]
        else:
            found = self._find_apart(method, pattern, text, field, group)
        self._left -= time.perf_counter() - begin
        if self._left <= 0:
            raise _refusal(field, pattern, text, self._late)
        return found

    def matches(self, pattern: str, path: str, field: str) -> bool:
        """Return whether an expression matches a path whole, with the errors of `find`."""
        return self.find("fullmatch", pattern, path, field) is not None

    def rehearse(self, method: Method, pattern: str, texts: Sequence[str], field: str) -> None:
        """Raise the errors of `find` unless another library can match all of `texts` quickly.

        An expression that is cheap in the worst case is not matched.
        """
        longest = max(map(len, texts), default=0)
        if not is_cheap(pattern, longest, anywhere=method == "search"):
            for text in texts:
                self.find(method, pattern, text, field)

    def _find_apart(
        self, method: Method, pattern: str, text: str, field: str, group: int | str
    ) -> str | None:
        from adalora_core.floor.expressions.process import NotMatchedError, TooSlowError, ask

        seconds = min(SECONDS_OF_MATCH, self._left)
        request: dict[str, object] = {
            "method": method, "pattern": pattern, "text": text, "group": group, "seconds": seconds
        }  # fmt: skip
        try:
            answer = ask(request)
        except NotMatchedError as error:
            is_late = isinstance(error, TooSlowError) and seconds < SECONDS_OF_MATCH
            raise _refusal(field, pattern, text, self._late if is_late else str(error)) from None
        if "error" in answer:
            raise re.error(answer["error"], pattern, answer["position"])
        if "refused" in answer:
            raise _refusal(field, pattern, text, _REASONS[answer["refused"]])
        found: str | None = answer["found"]
        return found


def _refusal(field: str, pattern: str, text: str, reason: str) -> ExpressionError:
    return ExpressionError(
        field,
        f"the regular expression {_shown(pattern)} cannot be matched against {_shown(text)}: "
        f"it {reason}",
    )


def _shown(text: str) -> str:
    return repr(text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}...")
