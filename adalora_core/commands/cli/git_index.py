"""List the files that git tracks, without reading the configuration of the repository."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING

from adalora_core.floor.regular_files import is_inside, open_regular_file

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST_BYTES = 64 << 20
"""The largest index, and the most names, that are read."""
LONGEST_SECONDS = 20
_LONGEST_LINK = 4096
_EMPTY = b"DIRC\0\0\0\2\0\0\0\0"
_EMPTY += hashlib.sha1(_EMPTY, usedforsecurity=False).digest()
"""The index of a repository to which nothing was added yet; git then has no such file."""


def tracked_files(top: str, searched: Sequence[str] = ()) -> frozenset[str] | None:
    """Return the names of all files that git tracks below `top`, as `folded` returns them.

    Args:
        top: the folder of the repository.
        searched: other folders of strangers; no program in one of them is run.

    Git's configuration can name programs to run. So git reads a copy of the index from an empty
    repository in a temporary folder, and nothing of the checked repository but that.

    Returns:
        None if git is missing, or does not read the index within the bounds.
    """
    program = _git([top, *searched])
    if program is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        try:
            raw = _index(Path(top, ".git"))
            Path(folder, "index").write_bytes(raw)
            for name in ("objects", "refs"):
                Path(folder, name).mkdir()
            Path(folder, "HEAD").write_text("ref: refs/heads/none\n", "ascii")
            names = _listed(program, folder)
        except (OSError, ValueError):
            return None
    return frozenset(folded(os.fsdecode(name)) for name in names.split(b"\0") if name)


def folded(name: str) -> str:
    """Return a name in the form in which all names that a file system may confuse are equal."""
    return unicodedata.normalize("NFC", name).casefold()


def _git(trees: Sequence[str]) -> str | None:
    """Return the program git, unless it is a file of a checked tree."""
    program = shutil.which("git")
    if program is None or not os.path.isabs(program):  # noqa: PTH117 - as it was found
        return None
    places = program, Path(program).parent
    return None if any(is_inside(each, tree) for each in places for tree in trees) else program


def _index(link: Path) -> bytes:
    """Return the content of the index; `.git` may be a file that names the folder."""
    if link.is_file():
        text = _read(link, _LONGEST_LINK).decode("utf-8", "surrogateescape")
        link = link.parent / text.removeprefix("gitdir:").strip()
    if not (link / "index").exists() and (link / "HEAD").is_file():
        return _EMPTY
    return _read(link / "index", MOST_BYTES)


def _read(path: Path, most: int) -> bytes:
    with os.fdopen(open_regular_file(path), "rb") as file:
        raw = file.read(most + 1)
    if len(raw) > most:
        raise ValueError(f"{path} has more than {most} bytes")
    return raw


def _listed(program: str, folder: str) -> bytes:
    environment = {
        name: value for name, value in os.environ.items() if not name.upper().startswith("GIT_")
    }
    environment |= {
        "GIT_DIR": folder,
        "GIT_WORK_TREE": folder,
        "GIT_INDEX_FILE": str(Path(folder, "index")),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_OPTIONAL_LOCKS": "0",
        "HOME": folder,
    }
    errors = Path(folder, "errors")
    with (
        errors.open("wb") as file,
        subprocess.Popen(  # noqa: S603 - git with fixed arguments
            [program, "ls-files", "-z", "--cached"],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=file,
        ) as process,
    ):
        names = _within_bounds(process)
    # Of a sparse index git lists a part, prints errors and ends with 0.
    if process.returncode or errors.stat().st_size:
        raise ValueError("git does not read the index")
    return names


def _within_bounds(process: subprocess.Popen[bytes]) -> bytes:
    """Return the output of a process, which is killed if it is too long or takes too long."""
    from threading import Timer

    timer = Timer(LONGEST_SECONDS, process.kill)
    timer.start()
    try:
        names = process.stdout.read(MOST_BYTES + 1) if process.stdout else b""
    finally:
        timer.cancel()
    if len(names) > MOST_BYTES:
        process.kill()
        raise ValueError(f"the names in the index have more than {MOST_BYTES} bytes")
    return names
