"""Run programs in processes of their own and keep what they print."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

Finished = subprocess.CompletedProcess[str]
LONGEST_MESSAGE = 4000
LEAVING_RANKS = str(Path(__file__).parent / "leaving_ranks")
"""First in PYTHONPATH, it lets ranks of a launcher end as `process_groups.leave` does."""


def run(*command: object, variables: dict[str, str] | None = None, **options: Any) -> Finished:
    """Run a command and return its result, whatever the exit code.

    Args:
        command: the program and its arguments.
        variables: what its environment has besides, or instead of, that of this process.
        options: of `subprocess.run`.
    """
    settings = {"capture_output": True, "text": True, "env": os.environ | (variables or {})}
    return subprocess.run([str(each) for each in command], check=False, **settings | options)


def output_of(*command: object, **options: Any) -> str:
    """Run a command that must succeed, with the options of `run`; return what it prints."""
    done = run(*command, **options)
    assert done.returncode == 0, (done.stdout + done.stderr)[-LONGEST_MESSAGE:]
    return done.stdout


def run_python(*arguments: object, **options: Any) -> Finished:
    """Run this interpreter as `run` does."""
    return run(sys.executable, *arguments, **options)


def output_of_python(*arguments: object, **options: Any) -> str:
    """Run this interpreter as `output_of` does."""
    return output_of(sys.executable, *arguments, **options)
