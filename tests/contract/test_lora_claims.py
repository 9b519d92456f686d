"""The faults of plain LoRA that rules find are faults in PEFT, which says nothing about them."""

from __future__ import annotations

import logging
import warnings

import peft
import pytest
import torch
from transformers import (
    BartConfig,
    BartForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5ForSequenceClassification,
)

from adalora_core.checker.rules.lora import LEAST_SCALE

SMALL = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "vocab_size": 20}
TOKENS = torch.tensor([[1, 20, 21, 3]])
"""Tokens of which two are added to the vocabulary."""


def _llama():
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**SMALL, num_attention_heads=2))


def _classifier():
    return BertForSequenceClassification(BertConfig(**SMALL, num_attention_heads=2, num_labels=3))


def _bart():
    sizes = {f"{part}_{name}": 1 for part in ("encoder", "decoder") for name in _COUNTS}
    return BartForSequenceClassification(BartConfig(d_model=16, vocab_size=20, **sizes))


_COUNTS = ("layers", "ffn_dim", "attention_heads")


def _t5():
    sizes = {"d_model": 16, "d_ff": 16, "d_kv": 8, "num_layers": 1, "num_heads": 2}
    return T5ForSequenceClassification(T5Config(**sizes, vocab_size=20))


class Tagger(torch.nn.Module):
    """A model of a script's own around a published one."""

    def __init__(self):
        super().__init__()
        self.body = BertModel(BertConfig(**SMALL, num_attention_heads=2))
        self.tags = torch.nn.Linear(16, 3)


def _with_tokens():
    model = _llama()
    model.resize_token_embeddings(22, mean_resizing=False)
    return model


@pytest.fixture
def adapted(caplog, capfd):
    """Return a function that makes a model of PEFT, and fails if that says anything."""

    def make(base, **settings):
        capfd.readouterr()
        with warnings.catch_warnings(), caplog.at_level(logging.INFO):
            warnings.simplefilter("error")
            warnings.filterwarnings("ignore", ".is_gradient_checkpointing. is deprecated")
            model = peft.get_peft_model(base, peft.LoraConfig(**settings))
        assert caplog.records == []
        assert capfd.readouterr() == ("", "")
        return model

    return make


def _trained(model):
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def _rows_after_a_step(model):
    """Return the rows of the added tokens in the embedding, before and after a step."""
    rows = [model.get_input_embeddings()(TOKENS[0, 1:3]).detach().clone()]
    optimizer = torch.optim.SGD((p for p in model.parameters() if p.requires_grad), lr=1.0)
    model(input_ids=TOKENS, labels=TOKENS).loss.backward()
    optimizer.step()
    return (*rows, model.get_input_embeddings()(TOKENS[0, 1:3]).detach())


def test_target_without_a_module_is_passed_over_beside_others(adapted):  # ADA951
    whole = adapted(_llama(), target_modules=["q_proj", "v_proj"])
    partly = adapted(_llama(), target_modules=["q_proj", "v_prj"])
    assert {"v_proj" in name for name in _trained(whole)} == {True, False}
    assert {"v_proj" in name for name in _trained(partly)} == {False}
    with pytest.raises(ValueError, match="not found in the base model"):
        adapted(_llama(), target_modules=["v_prj"])


def test_new_head_is_frozen_without_a_task_and_not_saved(adapted):  # ADA952
    model = adapted(_classifier(), target_modules=["query"])
    assert not any("classifier" in name for name in _trained(model))
    assert not any("classifier" in name for name in peft.get_peft_model_state_dict(model))
    for more in ({"task_type": "SEQ_CLS"}, {"modules_to_save": ["classifier"]}):
        model = adapted(_classifier(), target_modules=["query"], **more)
        assert any("classifier" in name for name in _trained(model))


@pytest.mark.parametrize(
    ("make", "target", "head", "others"),
    [
        (_bart, "q_proj", "classification_head", ["classifier", "score"]),
        (_t5, "q", "classification_head", ["classifier", "score"]),
        (_classifier, "query", "classifier", ["head"]),
        (Tagger, "query", "tags", ["classifier", "head"]),
    ],
)
def test_head_of_another_name_is_frozen(adapted, make, target, head, others):  # ADA952
    model = adapted(make(), target_modules=[target], modules_to_save=others)
    assert not any(head in name for name in _trained(model))
    for saved in (head, head[-4:]):
        model = adapted(make(), target_modules=[target], modules_to_save=[saved])
        assert any(head in name for name in _trained(model))


@pytest.mark.parametrize("targets", [["q_proj", "v_proj"], "all-linear", None], ids=str)
def test_rows_of_new_tokens_keep_their_values(adapted, targets):  # ADA953
    before, after = _rows_after_a_step(adapted(_with_tokens(), target_modules=targets))
    assert torch.equal(before, after)


@pytest.mark.parametrize(
    "more",
    [
        {"trainable_token_indices": [20, 21]},
        {"modules_to_save": ["embed_tokens"]},
        {"target_modules": ["q_proj", "embed_tokens"], "init_lora_weights": False},
    ],
    ids=lambda more: next(iter(more)),
)
def test_rows_of_new_tokens_are_trained_where_the_rule_is_silent(adapted, more):
    settings = {"target_modules": ["q_proj"], **more}
    before, after = _rows_after_a_step(adapted(_with_tokens(), **settings))
    assert not torch.equal(before, after)


def test_large_rank_with_the_default_alpha_has_a_small_scale(adapted):  # ADA954
    def layer(**settings):
        model = adapted(_llama(), target_modules=["q_proj"], **settings)
        optimizer = torch.optim.Adam((p for p in model.parameters() if p.requires_grad), eps=1e-20)
        model(input_ids=TOKENS % 20, labels=TOKENS % 20).loss.backward()
        optimizer.step()
        return next(each for each in model.modules() if hasattr(each, "lora_A"))

    def scale(**settings):
        return layer(**settings).scaling["default"]

    moved = [layer(r=256, **more).get_delta_weight("default") for more in ({}, {"lora_alpha": 256})]
    assert torch.allclose(moved[0] * 32, moved[1])
    assert scale(r=256) == 8 / 256
    assert scale() == scale(r=256, lora_alpha=256) == 1
    assert scale(r=64, lora_alpha=16) == LEAST_SCALE == scale(r=32)
    assert scale(r=256, use_rslora=True) == 0.5


def test_adapter_for_inference_trains_nothing(adapted):  # ADA955
    model = adapted(_llama(), target_modules=["q_proj"], inference_mode=True)
    assert _trained(model) == set()
    assert _trained(adapted(_llama(), target_modules=["q_proj"]))
    model.base_model.model.lm_head.requires_grad_(True)
    assert _trained(model) == {"base_model.model.lm_head.weight"}


@pytest.mark.parametrize(
    ("owner", "more"), [(peft.LoraConfig, {}), (peft.AdaLoraConfig, {"total_step": 100})]
)
def test_saved_configuration_trains_nothing_until_it_is_told_to(owner, more, tmp_path):
    base = _llama().requires_grad_(True)
    model = peft.get_peft_model(base, owner(target_modules=["q_proj"], **more))
    trained = _trained(model)  # what was unfrozen before is frozen again
    assert all("lora_" in name for name in trained)
    model.save_pretrained(tmp_path)
    for reader in (owner, peft.PeftConfig):
        config = reader.from_pretrained(tmp_path, inference_mode=False)
        assert _trained(peft.get_peft_model(_llama(), config)) == set()
        settings = {**config.to_dict(), "lora_alpha": 4}
        assert _trained(peft.get_peft_model(_llama(), owner(**settings))) == set()
        config.inference_mode = False
        assert _trained(peft.get_peft_model(_llama(), config)) == trained
    loaded = peft.PeftModel.from_pretrained(_llama(), tmp_path)
    assert _trained(loaded) == set()
    loaded.load_adapter(tmp_path, "other", is_trainable=True)
    assert not any("default" in name for name in _trained(loaded))
