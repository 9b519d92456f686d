"""Embeddings of the base model: PEFT has them in adapter files, and our own API has not."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from adalora_runs import make
from safetensors.torch import load_file, save_file
from torch import nn
from toy_models import TwoLayer
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from adalora_core import AdaLoraModel, RunWarning
from adalora_core.floor.errors import CheckpointError

pytestmark = pytest.mark.filterwarnings(
    "ignore:Setting `save_embedding_layers`",
    "ignore:Model has `tie_word_embeddings",
    "ignore:fan_in_fan_out is set to",
)
TENSORS = "adapter_model.safetensors"
SMALL = {"vocab_size": 20, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}


def llama(*, tied: bool = False) -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(**SMALL, intermediate_size=16, tie_word_embeddings=tied)
    return LlamaForCausalLM(config).eval()


def tied_llama() -> Any:
    return llama(tied=True)


def gpt2() -> Any:
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(vocab_size=20, n_embd=16, n_layer=1, n_head=2)).eval()


def resized(folder: Path, seed: int) -> Any:
    """Load the base model with new rows, which are drawn anew each time, as in a new process."""
    model = LlamaForCausalLM.from_pretrained(folder)
    model.resize_token_embeddings(24)
    torch.manual_seed(seed)
    for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
        nn.init.normal_(layer.weight.data[20:])
    return model.eval()


@torch.no_grad()
def drawn(library: str, base: Any, **changes: Any) -> Any:
    model = make(library, base, **changes)
    for parameter in (each for each in model.parameters() if each.requires_grad):
        nn.init.normal_(parameter, std=0.3)
    return model.eval()


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    return model(torch.arange(model.config.vocab_size)[None, -12:]).logits


@pytest.mark.parametrize("base", [llama, tied_llama, gpt2])
@pytest.mark.parametrize("library", ["peft", "attached"])
def test_a_head_in_a_file_of_peft_has_to_be_that_of_the_model(
    library: str, base: Any, tmp_path: Path
) -> None:
    module = "c_attn" if base is gpt2 else "q_proj"
    model = drawn(library, base(), target_modules=[module, "lm_head"])
    model.save_pretrained(tmp_path)
    assert any("lm_head.base_layer.weight" in name for name in load_file(tmp_path / TENSORS))
    loaded = AdaLoraModel.from_pretrained(base(), tmp_path)
    torch.testing.assert_close(logits(loaded), logits(model))
    other = base()
    nn.init.normal_(other.lm_head.weight)
    with pytest.raises(CheckpointError, match=r"other values .* adalora_core\.peft loads resized"):
        AdaLoraModel.from_pretrained(other, tmp_path)


@pytest.mark.parametrize("saved", [None, ["embed_tokens", "lm_head"]], ids=["frozen", "trained"])
def test_a_resized_vocabulary_is_saved_where_it_is_trained(saved: Any, tmp_path: Path) -> None:
    llama().save_pretrained(tmp_path / "base")
    model = drawn(
        "adalora_core",
        resized(tmp_path / "base", 1),
        target_modules=["q_proj"],
        modules_to_save=saved,
    )
    message = r"ADA823: the vocabulary .* from 20 to 24, .* without its embeddings"
    with contextlib.nullcontext() if saved else pytest.warns(RunWarning, match=message):
        model.save_pretrained(tmp_path / "adapter")
    for seed in (1, 2) if saved else (1,):
        base = resized(tmp_path / "base", seed)
        loaded = AdaLoraModel.from_pretrained(base, tmp_path / "adapter")
        torch.testing.assert_close(logits(loaded), logits(model))


def test_a_model_that_is_none_of_transformers_is_saved_though_it_has_a_vocabulary(
    tmp_path: Path,
) -> None:
    base = TwoLayer()
    base.config = SimpleNamespace(vocab_size=20)
    model = drawn("adalora_core", base, base_model_name_or_path=str(tmp_path / "base"))
    model.save_pretrained(tmp_path / "adapter")
    assert AdaLoraModel.from_pretrained(TwoLayer(), tmp_path / "adapter")


HEAD = {"target_modules": ["q_proj", "lm_head"]}
WRONG = {
    "a shape": ("lm_head.base_layer.weight", torch.ones(21, 16)),
    "a dtype": ("lm_head.weight", torch.ones(20, 16, dtype=torch.int8)),
    "a layer": ("model.norm.weight", torch.zeros(16)),
    "a head's part": ("lm_head.other", torch.ones(16)),
}


@pytest.mark.parametrize("case", WRONG)
def test_other_tensors_of_the_base_model_are_refused(case: str, tmp_path: Path) -> None:
    name, values = WRONG[case]
    drawn("adalora_core", llama(), **HEAD).save_pretrained(tmp_path)
    tensors = load_file(tmp_path / TENSORS) | {f"base_model.model.{name}": values}
    save_file(tensors, tmp_path / TENSORS)
    base = llama()
    before = base.state_dict()
    with pytest.raises(CheckpointError, match=f"tensor '{name}' .* other values or no such"):
        AdaLoraModel.from_pretrained(base, tmp_path)
    assert before.keys() == base.state_dict().keys()
    torch.testing.assert_close(base.state_dict(), before)
