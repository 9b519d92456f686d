"""Read sentences that people rated, and split them by the review or article they come from.

The sdist of vaderSentiment 3.3.2 (MIT licence) contains an archive with the data of C. J. Hutto and
E. Gilbert, VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social Media Text,
ICWSM 2014. Each sentence has the mean of at least 20 ratings from -4 to 4. Nothing of it is
committed: pip fetches the sdist, and the digests of both archives are checked before one is read.
"""

from __future__ import annotations

import hashlib
import io
import random
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

SDIST = "vaderSentiment-3.3.2.tar.gz"
SDIST_SHA256 = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
INNER = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
INNER_SHA256 = "d5bb07d87474b3eb8d30b4deccbc23f19d742a6c5718fbacc65485b70b95c5fa"
CACHE = Path(__file__).parents[3] / "build" / "allocation-study"

MEMBERS = {
    "products": "amazonReviewSnippets",
    "tweets": "tweets",
    "news": "nytEditorialSnippets",
    "movies": "movieReviewSnippets",
}
"""The four sets. Sentences of products and news name their review or article."""


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence, its mean rating, and the review or article it comes from."""

    text: str
    rating: float
    source: str


@dataclass(frozen=True, slots=True)
class Split:
    """Three sets of sentences; no source is in two of them."""

    train: list[Sentence]
    development: list[Sentence]
    test: list[Sentence]


def sdist(cache: Path = CACHE) -> Path:
    """Return the sdist in `cache`, and let pip fetch it first if it is not there.

    Raises:
        OSError: pip could not fetch it.
        ValueError: the file in the cache has another digest.
    """
    path = cache / SDIST
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        # Into a folder of its own: a download that is interrupted leaves nothing in the cache.
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            requirement = Path(folder) / "requirement.txt"
            requirement.write_text(f"vaderSentiment==3.3.2 --hash=sha256:{SDIST_SHA256}\n")
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
            command += ["--no-binary", "vaderSentiment", "--require-hashes", "-r", requirement.name]
            done = subprocess.run(  # noqa: S603 - pip, with constants
                command, cwd=folder, capture_output=True, text=True, check=False
            )
            if done.returncode:
                raise OSError(
                    f"pip could not fetch {SDIST}:\n{done.stderr.strip()}\n"
                    f"give the file with --sdist, or put it into {cache}"
                )
            (Path(folder) / SDIST).rename(path)
    checked(path.read_bytes(), SDIST_SHA256, str(path))
    return path


def checked(content: bytes, digest: str, name: str) -> bytes:
    """Return `content` if it has the digest.

    Raises:
        ValueError: it has another one.
    """
    found = hashlib.sha256(content).hexdigest()
    if found != digest:
        raise ValueError(f"{name}: expected sha256 {digest}, got {found}; delete the file")
    return content


def member(archive: bytes, name: str) -> bytes:
    """Return one file of a .tar.gz by its name; nothing is extracted to disk.

    Raises:
        ValueError: the archive has no regular file of this name.
    """
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
        found = [each for each in tar if each.name == name and each.isreg()]
        file = tar.extractfile(found[0]) if len(found) == 1 else None
        if file is None:
            raise ValueError(f"expected one file {name} in the archive, got {len(found)}")
        return file.read()


def read(data: str, path: Path) -> list[Sentence]:
    """Return the sentences of one set, each text once.

    Args:
        data: a key of MEMBERS.
        path: the sdist.

    Raises:
        ValueError: an archive has another digest, or a line is not `id<TAB>rating<TAB>text`.
    """
    outer = checked(path.read_bytes(), SDIST_SHA256, str(path))
    inner = checked(member(outer, INNER), INNER_SHA256, INNER)
    name = f"hutto_ICWSM_2014/{MEMBERS[data]}_GroundTruth.txt"
    return parsed(member(inner, name).decode("utf-8"), name)


def parsed(text: str, name: str) -> list[Sentence]:
    """Return the sentences of one file.

    Of equal texts only the first counts: some articles appear twice, and a sentence must not be
    learned and tested at once.
    """
    sentences: dict[str, Sentence] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            identity, rating, words = line.rstrip("\r").split("\t")
            found = Sentence(words.strip(), float(rating), identity.partition("_")[0])
        except ValueError:
            raise ValueError(
                f"{name}, line {number}: expected 'id<TAB>rating<TAB>text', got {line[:60]!r}"
            ) from None
        sentences.setdefault(" ".join(found.text.lower().split()), found)
    return list(sentences.values())


def split(sentences: Iterable[Sentence], seed: int) -> Split:
    """Split by source: a fifth for development, and of the rest a quarter for the test.

    The development set is the same for all seeds; each seed draws its own test set from the rest,
    so that intervals over seeds contain the choice of test sentences.
    """
    by_source: dict[str, list[Sentence]] = {}
    for each in sentences:
        by_source.setdefault(each.source, []).append(each)
    sources = sorted(by_source)
    random.Random(0).shuffle(sources)  # noqa: S311 - a split, not a secret
    held, rest = sources[: len(sources) // 5], sources[len(sources) // 5 :]
    random.Random(seed).shuffle(rest)  # noqa: S311 - same
    cut = len(rest) // 4

    def of(names: list[str]) -> list[Sentence]:
        return [each for name in names for each in by_source[name]]

    return Split(train=of(rest[cut:]), development=of(held), test=of(rest[:cut]))
