"""Show how far long work is: on a terminal, where tqdm is installed."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Collection, Iterable
from contextlib import AbstractContextManager
from typing import TypeVar

Item = TypeVar("Item")


def with_progress(items: Iterable[Item], unit: str) -> Iterable[Item]:
    """Return the items, which show a bar on standard error once their work takes a second.

    The bar is gone when the items end, also by an exception.

    Example:
        >>> list(with_progress(["a.py", "b.py"], "file"))
        ['a.py', 'b.py']
    """
    if sys.stderr is None or not sys.stderr.isatty():
        return items
    try:
        import shutil

        from tqdm import tqdm
    except ImportError:  # an extra of this package, which checking does not need
        return items
    total = len(items) if isinstance(items, Collection) else None
    # tqdm's own size shows nothing on a terminal that reports none.
    columns = shutil.get_terminal_size().columns
    unit = f" {unit}s"
    return tqdm(items, unit=unit, total=total, delay=1, leave=False, ncols=columns, nrows=2)


def without_bar() -> AbstractContextManager[None]:
    """Return a context in which a line may be printed: a bar is taken away, and drawn again."""
    tqdm = sys.modules.get("tqdm")
    if tqdm is None:
        return contextlib.nullcontext()
    paused: AbstractContextManager[None] = tqdm.tqdm.external_write_mode(file=sys.stderr)
    return paused
