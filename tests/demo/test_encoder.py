"""Nothing unverified is loaded as the encoder, and padding changes nothing."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from adalora_core.demo.data import RatedWord
from adalora_core.demo.encoder import (
    WordBatches,
    accuracy,
    features,
    load_encoder,
    mean_pooled,
    verified_model_folder,
    verify_weights,
)


@pytest.fixture(scope="module")
def model_folder():
    return verified_model_folder()


def test_verify_weights_of_a_changed_file_names_both_digests(tmp_path):
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"not the published weights")
    with pytest.raises(ValueError, match=r"expected .*sha256 53aa5117\w+, got \w+; reinstall"):
        verify_weights(weights)


def test_load_encoder_hides_the_folder_of_this_machine(model_folder):
    assert load_encoder(model_folder).name_or_path == "sentence-transformers/all-MiniLM-L6-v2"


def test_features_of_a_word_do_not_depend_on_the_words_beside_it(model_folder):
    words = [RatedWord("good", True), RatedWord("uncharacteristically", False)]
    encoder = load_encoder(model_folder)
    together = features(encoder, WordBatches(model_folder, words))
    alone = features(encoder, WordBatches(model_folder, words[:1]))
    torch.testing.assert_close(together[:1], alone, rtol=0, atol=1e-5)


def test_features_restores_the_training_mode(model_folder):
    encoder = load_encoder(model_folder).train()
    features(encoder, WordBatches(model_folder, [RatedWord("good", True)]))
    assert encoder.training


def test_mean_pooled_averages_real_tokens_only():
    hidden = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [100.0, 100.0]]])
    inputs = {"input_ids": torch.ones(1, 3), "attention_mask": torch.tensor([[1, 1, 0]])}
    pooled = mean_pooled(lambda **_: SimpleNamespace(last_hidden_state=hidden), inputs)
    assert pooled.tolist() == [[2.0, 3.0]]


def test_accuracy_counts_logits_on_the_right_side():
    scores = torch.tensor([2.0, -1.0, 0.5, -3.0])
    assert accuracy(scores, torch.tensor([1.0, 0.0, 0.0, 1.0])) == 0.5
