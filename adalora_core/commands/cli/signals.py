"""End a command by SIGINT and SIGTERM as by an exception, so that nothing half-written stays."""

from __future__ import annotations

import contextlib
import signal
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator


class Terminated(BaseException):
    """The process received SIGTERM."""


@contextlib.contextmanager
def raising() -> Iterator[None]:
    """Let SIGINT raise KeyboardInterrupt and SIGTERM raise Terminated, once each.

    Repetitions are ignored: files are being deleted. Handlers that a program has set stay, and so
    do signals that it ignores.
    """
    usual: dict[int, Any] = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGTERM: signal.SIG_DFL,
    }
    free = [each for each, handler in usual.items() if signal.getsignal(each) == handler]

    def end(number: int, _: object) -> NoReturn:
        signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt if number == signal.SIGINT else Terminated

    try:
        for each in free:
            signal.signal(each, end)
    except ValueError:  # only the main thread has signals
        free = []
    try:
        yield
    finally:
        for each in free:
            signal.signal(each, usual[each])
