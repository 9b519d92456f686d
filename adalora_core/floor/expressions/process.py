"""Keep a process that matches regular expressions and ends when one takes too long."""

from __future__ import annotations

import atexit
import json
import os
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adalora_core.floor.expressions.child import READY

if TYPE_CHECKING:
    import subprocess

_START_SECONDS = 20
"""The longest that an interpreter may take to start, on a machine that is busy otherwise."""

_PROGRAM = Path(__file__).with_name("child.py")
_lock = threading.Lock()
_child: subprocess.Popen[bytes] | None = None


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
            _write(child, json.dumps(request).encode() + b"\n")
            answer = _read_line(child)
        except BaseException:
            # Also an interrupt: the answer would be taken for that of the next request.
            _end()
            raise
        if answer.endswith(b"\n"):
            decoded: dict[str, Any] = json.loads(answer)
            return decoded
        _end()
        raise TooSlowError(f"takes more than {request['seconds']:.2g} s")


def _running() -> subprocess.Popen[bytes]:
    global _child  # noqa: PLW0603 - one process for all documents
    # Asking also reaps a process that ended while nobody waited for it.
    if _child is not None and _child.poll() is None:
        return _child
    _end()
    import subprocess  # not free, and most expressions are matched in this process

    if getattr(sys, "frozen", False) or not sys.executable:
        raise NotMatchedError("needs a Python interpreter of its own, and there is none")
    command = [sys.executable, "-I", "-S", str(_PROGRAM)]
    pipe, null = subprocess.PIPE, subprocess.DEVNULL
    try:
        _child = subprocess.Popen(  # noqa: S603 - our own program in this interpreter
            command, bufsize=0, stdin=pipe, stdout=pipe, stderr=null
        )
        patience = threading.Timer(_START_SECONDS, _child.kill)
        patience.daemon = True
        patience.start()
        try:
            first = _read_line(_child)
        finally:
            patience.cancel()
    except (OSError, RuntimeError) as error:
        _end()
        raise NotMatchedError(f"needs a process of its own, which cannot start ({error})") from None
    except BaseException:
        _end()
        raise
    if first != READY:
        _end()
        raise NotMatchedError("needs a process of its own, which ended at its start")
    return _child


def _write(child: subprocess.Popen[bytes], content: bytes) -> None:
    assert child.stdin is not None  # noqa: S101 - a pipe
    rest = memoryview(content)
    try:
        while rest:
            rest = rest[os.write(child.stdin.fileno(), rest) :]
    except BrokenPipeError:
        pass  # it has ended: there is no answer


def _read_line(child: subprocess.Popen[bytes]) -> bytes:
    assert child.stdout is not None  # noqa: S101 - a pipe
    line = b""
    while not line.endswith(b"\n") and (part := os.read(child.stdout.fileno(), 1 << 16)):
        line += part
    return line


def _end() -> None:
    """End the process, if there is one, and wait for it."""
    global _child
    child, _child = _child, None
    if child is not None:
        child.kill()
        # Closes the pipes too.
        with child:
            pass


def _forget() -> None:
    """Leave the process to the parent after a fork: both would read each other's answers."""
    global _child, _lock  # noqa: PLW0603 - same
    child, _child = _child, None
    _lock = threading.Lock()
    if child is not None:
        for pipe in (child.stdin, child.stdout):
            assert pipe is not None  # noqa: S101 - a pipe
            pipe.close()
        child.returncode = 0  # not a child of this process


atexit.register(_end)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
