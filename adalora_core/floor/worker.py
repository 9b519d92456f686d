"""Start a worker process with limits of the system, and end it when its time is over."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence

MOST_BYTES = 16 << 20
"""The size from which a frame of a worker is not read."""


class Bounds:
    """What each step of a worker may take.

    Args:
        seconds: processor time.
        memory: bytes of address space; with `of_data` of data, for libraries that map more.
        wall_seconds: time by the clock.
    """

    def __init__(
        self, seconds: int, memory: int, wall_seconds: int, *, of_data: bool = False
    ) -> None:
        self.seconds, self.memory, self.wall_seconds = seconds, memory, wall_seconds
        self.of_data = of_data


def limit_this_process(bounds: Bounds) -> None:
    """Let the system end this process after more processor time than `bounds` allow from now on.

    Beyond the memory Python raises MemoryError. A limit that the system lacks is not set.
    """
    try:
        import resource
    except ImportError:  # on Windows
        return
    spent = resource.getrusage(resource.RUSAGE_SELF)
    until = int(spent.ru_utime + spent.ru_stime) + 1 + bounds.seconds
    memory = resource.RLIMIT_DATA if bounds.of_data else resource.RLIMIT_AS
    for kind, wanted in ((resource.RLIMIT_CPU, until), (memory, bounds.memory)):
        _, hard = resource.getrlimit(kind)
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        try:
            resource.setrlimit(kind, (most, hard))
        except (OSError, ValueError):  # macOS refuses a limit of memory
            continue


OUT_OF_MEMORY = 86
"""The exit code of a worker that has no memory left."""
_LONGEST_WAIT = 10**8
_CHUNK = 1 << 16
"""The bytes that are read together: as many frames as there are."""
_LAST_STANDARD_STREAM = 2


class Channel:
    """Frames of bytes over two pipes."""

    def __init__(self, reading: int, writing: int) -> None:
        self.reading, self.writing = reading, writing
        self._buffer = b""

    def send(self, *contents: bytes) -> None:
        """Send frames in one go; BrokenPipeError: the other end has gone."""
        rest = memoryview(b"".join(len(each).to_bytes(8, "big") + each for each in contents))
        while rest:
            rest = rest[os.write(self.writing, rest) :]

    def receive(self) -> bytes | None:
        """Return a frame; None: the other end has gone."""
        size = self._size()
        return None if size is None else self._read(size)

    def _size(self) -> int | None:
        size = self._read(8)
        return None if size is None else int.from_bytes(size, "big")

    def _read(self, size: int) -> bytes | None:
        parts = [self._buffer]
        missing = size - len(self._buffer)
        while missing > 0 and (part := os.read(self.reading, max(missing, _CHUNK))):
            parts.append(part)
            missing -= len(part)
        content = b"".join(parts)
        self._buffer = content[size:]
        return None if missing > 0 else content[:size]


class Worker(Channel):
    """A process of this interpreter, which is started by exec and runs `program`.

    The program finds the descriptors of its pipes in `reading` and `writing`, and imports what this
    process imports; with `runs_site` also by the hooks that `site` installs.
    """

    def __init__(self, program: str, bounds: Bounds, *, runs_site: bool = False) -> None:
        self.bounds = bounds
        self.reason: str | None = None
        """Completes a sentence about what ended the process, if it has not ended by itself."""
        (there, writing), (reading, back) = _two_pipes()
        super().__init__(reading, writing)
        try:
            self._process = _start(program, there, back, runs_site=runs_site)
        except BaseException:
            self.close()
            raise
        finally:
            os.close(there)
            os.close(back)

    def answer(self, *, is_timed: bool = True) -> bytes | None:
        """Return the next frame; None: the worker has ended, or has to and was ended."""
        if self._buffer or not is_timed:
            return self.receive()
        if os.name == "nt":  # where only sockets can be waited for
            from threading import Timer

            timer = Timer(self.bounds.wall_seconds, self._end_late)
            timer.start()
            try:
                return self.receive()
            finally:
                timer.cancel()
        from select import select

        if select([self.reading], [], [], min(self.bounds.wall_seconds, _LONGEST_WAIT))[0]:
            return self.receive()
        self._end_late()
        return None

    def receive(self) -> bytes | None:
        """Return a frame that is not too long; None: there is none."""
        size = self._size()
        if size is None or size <= MOST_BYTES:
            return None if size is None else self._read(size)
        self.kill(f"has more than {MOST_BYTES >> 20} MB of findings")
        return None

    def has_frame(self) -> bool:
        """Return whether a frame was read together with the last one."""
        return bool(self._buffer)

    def kill(self, reason: str) -> None:
        """End the process."""
        self.reason = reason
        self._process.kill()

    def forward(self, number: int) -> None:
        """Hand on a signal."""
        self._process.send_signal(number)

    def has_ended(self) -> bool:
        """Return whether the process has ended, without waiting for it."""
        return self._process.poll() is not None

    def end(self) -> int:
        """Wait for the process, and return its exit code, which is negative after a signal."""
        code = self._process.wait()
        self.close()
        if code == OUT_OF_MEMORY and self.reason is None:
            self.reason = f"needs more than {self.bounds.memory >> 20} MB of memory"
        elif code < 0 and self.reason is None:
            self.reason = (
                f"needs more than {self.bounds.seconds} s of processor time"
                if -code == getattr(signal, "SIGXCPU", 0)
                else f"ends the process that reads it (signal {-code})"
            )
        return code

    def _end_late(self) -> None:
        self.kill(f"takes more than {self.bounds.wall_seconds} s")

    def close(self) -> None:
        """Close this end of the pipes."""
        os.close(self.reading)
        os.close(self.writing)


def _two_pipes() -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the ends of two pipes; none has the number of a standard stream that is closed."""
    held = [os.open(os.devnull, os.O_RDONLY)]
    while held[-1] <= _LAST_STANDARD_STREAM:
        held.append(os.open(os.devnull, os.O_RDONLY))
    pipes = os.pipe(), os.pipe()
    for each in held:
        os.close(each)
    return pipes


def _start(program: str, reading: int, writing: int, *, runs_site: bool) -> subprocess.Popen[bytes]:
    if sys.platform == "emscripten":
        raise OSError("a browser starts no process")
    flags = ["-I"] if sys.flags.isolated else ["-P"]
    flags += ["-B"] * bool(sys.flags.dont_write_bytecode) + ["-S"] * (not runs_site)
    flags += [f"-W{each}" for each in sys.warnoptions] + ["-Xutf8"] * bool(sys.flags.utf8_mode)
    # Behind what this process finds by its path: an editable install is found by a hook.
    path = [*sys.path, os.path.dirname(os.path.dirname(os.path.dirname(__file__)))]  # noqa: PTH120
    if sys.platform == "win32":
        import msvcrt

        handles = [msvcrt.get_osfhandle(each) for each in (reading, writing)]
        for each in handles:
            os.set_handle_inheritable(each, True)
        opened = "import msvcrt; reading, writing = (msvcrt.open_osfhandle(each, 0) for each in "
        head = f"{opened}{handles})"
        return subprocess.Popen(_command(flags, path, head, program), close_fds=False)  # noqa: S603
    head = f"reading, writing = {reading}, {writing}"
    command = _command(flags, path, head, program)
    return subprocess.Popen(command, pass_fds=(reading, writing))  # noqa: S603 - ours


def _command(flags: Sequence[str], path: Sequence[str], head: str, program: str) -> list[str]:
    return [sys.executable, *flags, "-c", f"import sys; sys.path[:] = {path!r}; {head}; {program}"]
