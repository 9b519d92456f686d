"""Run the command on hostile files in a process with limits, an empty home and a canary."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import resource
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from programs import Finished

needs_peft = pytest.mark.skipif(
    importlib.util.find_spec("peft") is None, reason="PEFT is not installed; would have planned"
)
SUPPORT = str(Path(__file__).parent)
"""The folder of this module, for programs that import others of it."""
CANARY = "CANARY-5f1c"
"""A text of files outside of the checked tree: no report may show it, no run may change it."""

DROP_CAPABILITY, DAC_OVERRIDE, DAC_READ_SEARCH = 24, 1, 2
"""Numbers of Linux: the command of prctl, and two capabilities."""


@dataclass
class Confined:
    """A checked tree with a home and a secret outside of it.

    Args:
        outside: the folder that holds the tree, the home and the secret.
        memory: bytes of address space that a run may use.
        seconds: CPU time after which a run is killed, generous for a busy machine.
        may_read_all: whether root reads files that their modes close, as usual.
    """

    outside: Path
    memory: int = 1 << 30
    seconds: int = 60
    may_read_all: bool = True
    tree: Path = field(init=False)
    secret: Path = field(init=False)

    def __post_init__(self) -> None:
        self.tree = self.outside / "tree"
        self.secret = self.outside / "secret.json"
        for folder in (self.tree, self.outside / "home"):
            folder.mkdir()
        self.secret.write_text(f'{{"peft_type": "ADALORA",\n "init_r": "{CANARY}"}}\n')
        self._before = self._state()

    def write(self, files: dict[str, str | bytes]) -> None:
        """Write files below the tree."""
        for name, content in files.items():
            path = self.tree / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())

    def run(self, *arguments: object, **options: object) -> Finished:
        """Run `adalora` in the tree; fail if it shows or changes the secret, or breaks down.

        Args:
            arguments: of the command.
            options: of `subprocess.run`.
        """
        return self.run_python("-m", "adalora_core", *arguments, **options)

    def run_python(self, *arguments: object, **options: object) -> Finished:
        """Run this interpreter as `run` runs the command."""
        command = [sys.executable, "-I", *map(str, arguments)]
        done = subprocess.run(
            command,
            check=False,
            capture_output=True,
            text=True,
            errors="backslashreplace",
            env={"HOME": str(self.outside / "home"), "PATH": os.defpath, "PYTHONUTF8": "1"},
            preexec_fn=self._limit,
            **{"cwd": self.tree, "timeout": 600, "stdin": subprocess.DEVNULL} | options,
        )
        shown = done.stdout + done.stderr
        assert "Traceback" not in shown, shown[-2000:]
        assert CANARY not in shown, shown[-2000:]
        assert self._state() == self._before
        return done

    def _limit(self) -> None:
        resource.setrlimit(resource.RLIMIT_AS, (self.memory, self.memory))
        resource.setrlimit(resource.RLIMIT_CPU, (self.seconds, self.seconds))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if not self.may_read_all and os.geteuid() == 0:
            for capability in DAC_OVERRIDE, DAC_READ_SEARCH:
                ctypes.CDLL(None).prctl(DROP_CAPABILITY, capability, 0, 0, 0)

    def _state(self) -> tuple[object, ...]:
        status = self.secret.stat()
        home = sorted((self.outside / "home").iterdir())
        return self.secret.read_text(), status.st_ino, status.st_mtime_ns, home
