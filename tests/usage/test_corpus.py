"""Judge scripts and notebooks after public ones as a careful reader does.

`corpus_strangers` are three sets by readers who had not seen the rules: the rules learned from the
first two (g*.* and h*.*), and the last one (i*.*) judged them. `corpus_later` was written when the
rules were there, by a reader who had not seen them. `corpus_lora` holds plain LoRA, most of it
right, and was written before the rules on it, but for what `after` says.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from usage_corpus import compare

FILES_PER_ALARM = 40


@pytest.mark.parametrize("folder", ["corpus_strangers", "corpus_later", "corpus_lora"])
def test_nine_of_ten_faults_are_found_and_hardly_anything_else(folder: str) -> None:
    result = compare(Path(__file__).parent / folder)
    assert result.share >= 0.9, result.missed
    assert len(result.alarms) * FILES_PER_ALARM <= result.files, result.alarms
