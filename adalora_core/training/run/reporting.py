"""Report findings of a run, as warnings or as errors."""

from __future__ import annotations

import sys
import warnings
from collections.abc import MutableMapping
from typing import TYPE_CHECKING

from torch import distributed

from adalora_core.config.rules import RULES
from adalora_core.floor.errors import RunError, RunWarning

if TYPE_CHECKING:
    from adalora_core.config.rules.base import Rule

_INSIDE = frozenset({"accelerate", "adalora_core", "contextlib", "peft", "torch", "transformers"})
"""Packages between the line of a user's script and a finding."""

_ignored: set[str] = set()


def ignore_run_findings(*codes: str) -> None:
    """Ignore the findings `codes` of all runs of this process; without codes, all of them.

    An ignored finding is neither a warning nor an error. The filters of `warnings` work too, for
    one code, `filterwarnings("ignore", "ADA803")`, or by category, `RunWarning`.

    Raises:
        ValueError: there is no rule of this code.

    Example:
        >>> import adalora_core
        >>> adalora_core.ignore_run_findings("ADA803")
    """
    known = {rule.code for rule in RULES if rule.needs == "run"}
    if unknown := sorted(set(codes) - known):
        raise ValueError(
            f"ignore_run_findings: there is no rule {unknown[0]!r} of runs; there are "
            f"{min(known)} to {max(known)}"
        )
    _ignored.update(codes or known)


def report(found: MutableMapping[str, str], rule: type[Rule], seen: str) -> None:
    """Warn of what a run has done, once per rule; only the first process of several warns.

    `found` has the messages of the run so far, by code, and `seen` what was seen, with numbers.
    """
    if rule.code in found or rule.code in _ignored:
        return
    found[rule.code] = seen
    if not (distributed.is_available() and distributed.is_initialized() and distributed.get_rank()):
        warnings.warn(text_of(rule, seen), RunWarning, stacklevel=frames_inside())


def refuse(rule: type[Rule], seen: str) -> None:
    """Raise the error of a run that can only waste time, unless its code is ignored."""
    if rule.code not in _ignored:
        raise RunError(text_of(rule, seen))


def text_of(rule: type[Rule], seen: str) -> str:
    """Return the text of a warning or an error."""
    return f"{rule.code}: {seen}. To do: {rule.hint} (adalora rule {rule.code})"


def frames_inside() -> int:
    """Return the stack level of the first frame of a script, seen from the caller."""
    frame, level = sys._getframe(2), 2  # noqa: SLF001 - skip_file_prefixes came with Python 3.12
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in _INSIDE:
        frame, level = frame.f_back, level + 1
    return level
