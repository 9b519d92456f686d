"""Keep a process that matches regular expressions and ends when one takes too long.

Each request and each answer is JSON; `serve` is the other end, which runs in the process.
"""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import json
import os
import re
import signal
import sys
import threading
from typing import Any

from adalora_core.floor.worker import Bounds, Channel, Worker, limit_this_process

_READY = b"ready to match"
_BOUNDS = Bounds(10**9, 512 << 20, 20)
"""The memory of a match, and the time that the start may take; a timer ends a match."""
_PROGRAM = "from adalora_core.floor.expressions.process import serve; serve(reading, writing)"
_lock = threading.Lock()
_child: Worker | None = None


class NotMatchedError(Exception):
    """A match has no result; the message is the end of a sentence that gives the reason."""


def ask(request: dict[str, object]) -> dict[str, Any]:
    """Return the answer to `request` of the process, which is started if there is none.

    Raises NotMatchedError where none can be started, or its time was over.
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
        raise NotMatchedError(f"takes more than {request['seconds']:.2g} s")


def _running() -> Worker:
    global _child  # noqa: PLW0603 - one process for all documents
    if _child is not None and not _child.has_ended():
        return _child
    _end()
    if getattr(sys, "frozen", False) or not sys.executable:
        raise NotMatchedError("needs a Python interpreter of its own, and there is none")
    with contextlib.ExitStack() as after_failure:
        after_failure.callback(_end)
        try:
            _child = Worker(_PROGRAM, _BOUNDS)
            first = _child.answer()
        except OSError as error:
            why = f"which cannot start ({error})"
            raise NotMatchedError(f"needs a process of its own, {why}") from None
        if first != _READY:
            raise NotMatchedError("needs a process of its own, which ended at its start")
        after_failure.pop_all()
    return _child


def _end() -> None:
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


# --- in the process -----------------------------------------------------------------------------


def _set_timer(seconds: float) -> None:
    """End this process after `seconds` of its own CPU time; 0 means never."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_PROF, seconds)
    elif seconds:
        # No such timer on Windows: a thread that needs no lock of the interpreter.
        faulthandler.dump_traceback_later(seconds, exit=True)
    else:
        faulthandler.cancel_dump_traceback_later()


def _answer(request: dict[str, object]) -> dict[str, object]:
    try:
        method = getattr(re, str(request["method"]))
        found = method(request["pattern"], request["text"])
        return {"found": found and found[request["group"]]}
    except re.error as error:
        return {"error": error.msg, "position": error.pos}
    except (RecursionError, MemoryError, OverflowError) as error:
        return {"refused": type(error).__name__}


def serve(reading: int, writing: int) -> None:
    """Answer requests until there are no more."""
    limit_this_process(_BOUNDS)
    # The parent decides when an interrupted run ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "setitimer"):
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGPROF])
    channel = Channel(reading, writing)
    channel.send(_READY)
    while (frame := channel.receive()) is not None:
        request = json.loads(frame)
        _set_timer(request["seconds"])
        answer = _answer(request)
        _set_timer(0)
        channel.send(json.dumps(answer).encode())
