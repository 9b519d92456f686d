"""Read the option `--limit`: limits of a document, and bounds of the process that reads it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable

from adalora_core.floor.limits import Limits
from adalora_core.floor.worker import Bounds

BOUNDS = {
    "processor-seconds": "seconds", "memory-bytes": "memory", "wall-seconds": "wall_seconds"
}  # fmt: skip
"""The bounds of a process, `{name of the limit: name in Bounds}`."""
FORMER = ("regex-length", "tokens")
"""Names of limits of earlier versions."""


def parse_limits(
    settings: Iterable[str], bounds: Bounds, *, lowers_only: bool = False, of_documents: bool = True
) -> tuple[Limits, Bounds]:
    """Read `NAME=NUMBER` settings, as `--limit` takes them: limits of documents, and `bounds`.

    Args:
        settings: the settings; of two with one name the later one holds.
        bounds: the bounds that a process has without them.
        lowers_only: whether no setting may raise a limit.
        of_documents: whether limits of documents have a meaning.

    Raises:
        ValueError: a name is unknown or a former one, or a number is wrong or too large.
    """
    limits = {name.replace("_", "-"): each for name, each in dataclasses.asdict(Limits()).items()}
    known = (limits if of_documents else {}) | {
        name: getattr(bounds, own) for name, own in BOUNDS.items()
    }
    found = dict(known)
    for setting in settings:
        name, _, number = (part.strip() for part in setting.partition("="))
        name = name.replace("_", "-")
        if name in FORMER:
            raise ValueError(
                f"the limit {name!r} is gone, since a bound on processor time holds in its place; "
                "remove it, or set processor-seconds"
            )
        if name not in known or not re.fullmatch(r"0*[1-9]\d{0,11}", number, re.ASCII):
            raise ValueError(
                f"a limit should be NAME=NUMBER, with a name of {', '.join(known)} and a number "
                f"from 1 to 999999999999, got {setting!r}"
            )
        if lowers_only and int(number) > known[name]:
            raise ValueError(
                f"a file of settings may lower {name}, which is {known[name]}, and not raise it, "
                f"got {setting!r}; pass --limit for more"
            )
        found[name] = int(number)
    changed = {own: found[name] for name, own in BOUNDS.items()}
    return (
        Limits(**{name.replace("-", "_"): found.get(name, each) for name, each in limits.items()}),
        Bounds(**changed, of_data=bounds.of_data),
    )
