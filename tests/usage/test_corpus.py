"""Judge scripts and notebooks after public ones as a careful reader does.

The corpus is divided by the digest of the file names: `corpus` was committed with its verdicts
before the first rule was written, `corpus_open` was read while the rules were written.
`corpus_later` was written when the rules were there, by a reader who had not seen them.
`corpus_strangers` are three sets by others who had not: the rules learned from the first two (g*.*
and h*.*), and the last one (i*.*) judged them. `corpus_lora` holds plain LoRA, most of it right,
and was written before the rules on it, but for what `after` says. Of `corpus`, `corpus_open` and
`corpus_lora` those files are left that run code of the checker which no other file does, and those
whose finding is rare.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from usage_corpus import compare

HALVES = {"corpus": "01234567", "corpus_open": "89abcdef"}
FILES_PER_ALARM = 40


@pytest.mark.parametrize("folder", [*HALVES, "corpus_later", "corpus_strangers", "corpus_lora"])
def test_nine_of_ten_faults_are_found_and_hardly_anything_else(folder: str) -> None:
    result = compare(Path(__file__).parent / folder)
    assert result.share >= 0.9, result.missed
    assert len(result.alarms) * FILES_PER_ALARM <= result.files, result.alarms


@pytest.mark.parametrize("half", HALVES)
def test_half_is_drawn_by_the_digest_of_the_file_name(half: str) -> None:
    folder = Path(__file__).parent / half
    names = [path.name for path in folder.iterdir() if path.name != "verdicts.json"]
    digits = {hashlib.sha256(name.encode()).hexdigest()[0] for name in names}
    assert len(names) >= 40
    assert digits <= set(HALVES[half])
