"""Match regular expressions for another process, one request and one answer of JSON each."""

from __future__ import annotations

import faulthandler
import json
import re
import signal

from adalora_core.floor.worker import Bounds, Channel, limit_this_process

READY = b"ready to match"
BOUNDS = Bounds(10**9, 512 << 20, 20)
"""The memory of a match, and the time that the start may take; a timer ends a match."""


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
    limit_this_process(BOUNDS)
    # The parent decides when an interrupted run ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "setitimer"):
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGPROF])
    channel = Channel(reading, writing)
    channel.send(READY)
    while (frame := channel.receive()) is not None:
        request = json.loads(frame)
        _set_timer(request["seconds"])
        answer = _answer(request)
        _set_timer(0)
        channel.send(json.dumps(answer).encode())
