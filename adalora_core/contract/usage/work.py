"""Bound the work of following one script, whose parts could multiply."""

from __future__ import annotations

import ast
import contextlib
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from adalora_core.contract.text.python.script import Script


class TooMuchWorkError(Exception):
    """Following a script takes more steps than are allowed."""


_followed: ContextVar[Script | None] = ContextVar("followed", default=None)


@contextlib.contextmanager
def following(script: Script) -> Iterator[None]:
    """Count the steps inside the `with` block for a script."""
    token = _followed.set(script)
    try:
        yield
    finally:
        _followed.reset(token)


def spend(steps: int = 1) -> None:
    """Count steps of less than a microsecond.

    Raises:
        TooMuchWorkError: there were too many.
    """
    script = _followed.get()
    if script is not None:
        script.steps_left -= steps
        if script.steps_left < 0:
            raise TooMuchWorkError


def walk(node: ast.AST) -> Iterator[ast.AST]:
    """Yield a node and all nodes inside, and count them."""
    for each in ast.walk(node):
        spend()
        yield each
