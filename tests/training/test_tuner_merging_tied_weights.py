"""A merge into a layer that shares its weight with another module changes that layer only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from adalora_runs import make
from toy_models import VOCABULARY
from transformers import LlamaConfig, LlamaForCausalLM

TOKENS = torch.tensor([[5, 6, 7, 8]])
HEAD = {"target_modules": ["lm_head", "q_proj"]}
COPY = {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}
UNTIED = pytest.mark.filterwarnings("ignore:unload. input and output embeddings differ")


def tied_llama() -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        tie_word_embeddings=True,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config).eval()


@torch.no_grad()
def adapted(**changes: Any) -> Any:
    model = make("adalora_core", tied_llama(), **changes)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.normal_(std=0.3)
    return model.eval()


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    return model(TOKENS).logits


@UNTIED
@pytest.mark.parametrize("changes", [HEAD, COPY], ids=["target", "modules_to_save"])
def test_the_merged_model_computes_the_same_after_a_reload(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    model = adapted(**changes)
    expected = logits(model)
    merged = model.merge_and_unload()
    torch.testing.assert_close(logits(merged), expected)
    merged.save_pretrained(tmp_path)
    torch.testing.assert_close(logits(LlamaForCausalLM.from_pretrained(tmp_path)), expected)


def test_a_refused_merge_separates_nothing() -> None:
    model = adapted(**HEAD)
    base = model.get_base_model()
    with torch.no_grad():
        base.model.layers[0].self_attn.q_proj.lora_E["default"].fill_(torch.nan)
    with pytest.raises(ValueError, match="NaNs"):
        model.merge_and_unload(safe_merge=True)
    assert base.lm_head.base_layer.weight is base.model.embed_tokens.weight


def test_the_unloaded_model_is_tied_as_before() -> None:
    base = adapted(**HEAD).unload()
    assert base.lm_head.weight is base.model.embed_tokens.weight
    assert base.config.tie_word_embeddings


def test_the_user_learns_that_the_embeddings_differ() -> None:
    with pytest.warns(UserWarning, match="tie_word_embeddings is False"):
        adapted(**HEAD).merge_and_unload()
