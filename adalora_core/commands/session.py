"""Hold what a command tells the process that started it, and the bounds of its steps."""

from __future__ import annotations

import marshal
import os
import time
from typing import TYPE_CHECKING

from adalora_core.floor.worker import OUT_OF_MEMORY, Bounds, Channel, limit_this_process

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

OF_A_CHECK = Bounds(10, 1 << 30, 30)
OF_TENSORS = Bounds(60, 4 << 30, 120, of_data=True)
"""The bounds of commands that load torch or the tensors of an adapter."""


_LITTLE = 0.5
"""Seconds of processor time for which bounds are not set anew."""


class Session:
    """What a command tells the process that waits for it; without one, nothing.

    Attributes:
        results: the results of files that earlier workers have read, by name.
        beyond: `{file: reason}` of those that exceed a bound.
        is_full: whether there were so many of these that no other file is to be read.
    """

    def __init__(self, channel: Channel | None = None) -> None:
        self._channel = channel
        self.results: dict[str, bytes] = {}
        self.beyond: dict[str, str] = {}
        self.is_full = False
        self.bounds = OF_A_CHECK
        self._limited = 0.0
        self._held = b""
        self._printed: set[str] = set()

    def begin(self, file: str, *, may_retry: bool = True) -> None:
        """Announce that a file is read next, with new bounds."""
        if self._channel is not None:
            self._send("file", file, may_retry)
            self._limit_again()

    def done(self, result: object) -> None:
        """Hand over the result of the announced file, and begin a step without a file.

        None is not handed over: the next worker would read the file again. Others are sent with
        what is sent next, in one go.
        """
        if self._channel is not None and result is None:
            self._held = marshal.dumps(("passed",))
        elif self._channel is not None:
            import pickle

            self._held = marshal.dumps(("result", pickle.dumps(result)))
            self._limit_again()

    def end_of_files(self) -> None:
        """Hand over the last result."""
        if self._held:
            self._send()

    def _limit_again(self) -> None:
        """Set the bounds anew, unless little of them was used."""
        if (now := time.process_time()) - self._limited > _LITTLE:
            self._limited = now
            limit_this_process(self.bounds)

    def result_of(self, file: str) -> Any:
        """Return the result that an earlier worker had for a file; None: there is none."""
        import pickle

        return pickle.loads(self.results[file]) if file in self.results else None  # noqa: S301 - same

    def is_new(self, message: str) -> bool:
        """Return whether no earlier worker has printed a message, and note that this one does."""
        is_new = message not in self._printed
        if self._channel is not None and is_new:
            self._send("printed", message)
        return is_new

    def set_bounds(self, bounds: Bounds) -> None:
        """Set the bounds of all further steps."""
        self.bounds = bounds
        if self._channel is not None:
            self._send("bounds", vars(bounds))
            limit_this_process(bounds)

    def waiting(self) -> _Waiting:
        """Return a context in which the user is waited for, and not the worker."""
        return _Waiting(self._send)

    def serve(self, reading: int, writing: int, run: Callable[[Sequence[str]], int]) -> int:
        """Let `run` execute the command that the waiting process asks for."""
        channel = Channel(reading, writing)
        argv, self.results, self.beyond, printed, self.is_full, bounds = marshal.loads(  # noqa: S302
            channel.receive() or b""
        )
        self.bounds, self._channel, self._printed = Bounds(**bounds), channel, set(printed)
        limit_this_process(self.bounds)
        try:
            return run(argv)
        except MemoryError:
            os._exit(OUT_OF_MEMORY)

    def _send(self, *frame: Any) -> None:
        if self._channel is not None:
            frames = [each for each in (self._held, frame and marshal.dumps(frame)) if each]
            self._held = b""
            self._channel.send(*frames)


class _Waiting:  # the decorator of contextlib takes longer to import than this module
    def __init__(self, send: Callable[..., None]) -> None:
        self._send = send

    def __enter__(self) -> None:
        self._send("waits", True)

    def __exit__(self, *_: object) -> None:
        self._send("waits", False)


SESSION = Session()
"""The session of this process."""
