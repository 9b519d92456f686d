"""Match regular expressions for another process, one line of JSON per request and answer.

The process runs this file alone, without the package. A request that takes too long ends it.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import re
import signal
import sys

READY = b"ready to match\n"
MOST_BYTES = 512 * 1024 * 1024
"""The address space that a match may use, where the system can limit it."""


def _limit() -> None:
    """Bound the memory, and let the timer end this process whatever the parent does with it."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_AS)
        usable = MOST_BYTES if most == resource.RLIM_INFINITY else min(MOST_BYTES, most)
        resource.setrlimit(resource.RLIMIT_AS, (usable, most))
    # The parent decides when an interrupted run ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "setitimer"):
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGPROF])


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


def main() -> None:
    """Answer requests until there are no more."""
    _limit()
    answers = sys.stdout.buffer
    answers.write(READY)
    answers.flush()
    for line in sys.stdin.buffer:
        request = json.loads(line)
        _set_timer(request["seconds"])
        answer = _answer(request)
        _set_timer(0)
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()


if __name__ == "__main__":
    main()
