"""Keep a process that matches regular expressions and ends when one takes too long."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import sys
import threading
from typing import Any

from adalora_core.floor.expressions.child import BOUNDS, READY
from adalora_core.floor.worker import Worker

_PROGRAM = "from adalora_core.floor.expressions.child import serve; serve(reading, writing)"
_lock = threading.Lock()
_child: Worker | None = None


class NotMatchedError(Exception):
    """A match has no result; the message is the end of a sentence that gives the reason."""


class TooSlowError(NotMatchedError):
    """A match took longer than the request allows."""


def ask(request: dict[str, object]) -> dict[str, Any]:
    """Return the answer to `request` of the process, which is started if there is none.

    Raises NotMatchedError where none can be started, and TooSlowError where its time was over.
    """
    with _lock:
        child = _running()
        try:
            with contextlib.suppress(BrokenPipeError):  # it has ended: there is no answer
                child.send(json.dumps(request).encode())
            answer = child.answer(is_timed=False)
        except BaseException:
            # Also an interrupt: the answer would be taken for that of the next request.
            _end()
            raise
        if answer is not None:
            decoded: dict[str, Any] = json.loads(answer)
            return decoded
        _end()
        raise TooSlowError(f"takes more than {request['seconds']:.2g} s")


def _running() -> Worker:
    global _child  # noqa: PLW0603 - one process for all documents
    if _child is not None and not _child.has_ended():
        return _child
    _end()
    if getattr(sys, "frozen", False) or not sys.executable:
        raise NotMatchedError("needs a Python interpreter of its own, and there is none")
    try:
        _child = Worker(_PROGRAM, BOUNDS)
        first = _child.answer()
    except OSError as error:
        _end()
        raise NotMatchedError(f"needs a process of its own, which cannot start ({error})") from None
    except BaseException:
        _end()
        raise
    if first != READY:
        _end()
        raise NotMatchedError("needs a process of its own, which ended at its start")
    return _child


def _end() -> None:
    """End the process, if there is one, and wait for it."""
    global _child
    child, _child = _child, None
    if child is not None:
        child.kill("")
        child.end()


def _forget() -> None:
    """Leave the process to the parent after a fork: both would read each other's answers."""
    global _child, _lock  # noqa: PLW0603 - same
    child, _child = _child, None
    _lock = threading.Lock()
    if child is not None:
        child.close()


atexit.register(_end)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
