"""Embeddings of the base model in adapter files, as PEFT writes and reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from adalora_runs import LIBRARIES, LOADERS, make
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from adalora_core import AdaLoraModel
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
@pytest.mark.parametrize("library", LIBRARIES)
def test_a_saved_head_is_read_into_the_base_layer(library: str, base: Any, tmp_path: Path) -> None:
    module = "c_attn" if base is gpt2 else "q_proj"
    model = drawn(library, base(), target_modules=[module, "lm_head"])
    # PEFT saves an adapted head unasked; here a frozen weight is saved if it is asked for.
    options = {"save_embedding_layers": True} if library == "adalora_core" else {}
    model.save_pretrained(tmp_path, **options)
    assert any("lm_head.base_layer.weight" in name for name in load_file(tmp_path / TENSORS))
    for loader in LOADERS.values():
        other = base()
        nn.init.normal_(other.lm_head.weight)
        loaded = loader.from_pretrained(other, tmp_path).eval()
        torch.testing.assert_close(logits(loaded), logits(model))


@pytest.mark.parametrize("saved", [None, ["embed_tokens", "lm_head"]], ids=["frozen", "trained"])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("library", LIBRARIES)
def test_a_resized_vocabulary_is_saved_and_read(
    library: str, tied: bool, saved: Any, tmp_path: Path
) -> None:
    llama(tied=tied).save_pretrained(tmp_path / "base")
    base = resized(tmp_path / "base", 1)
    model = drawn(library, base, target_modules=["q_proj"], modules_to_save=saved)
    model.save_pretrained(tmp_path / "adapter")
    for loader in LOADERS.values():
        other = resized(tmp_path / "base", 2)
        loaded = loader.from_pretrained(other, tmp_path / "adapter").eval()
        torch.testing.assert_close(logits(loaded), logits(model))
        with loaded.disable_adapter(), model.disable_adapter():
            torch.testing.assert_close(logits(loaded), logits(model))


def test_embeddings_are_saved_as_asked_for(tmp_path: Path) -> None:
    llama().save_pretrained(tmp_path / "base")
    same = drawn("adalora_core", LlamaForCausalLM.from_pretrained(tmp_path / "base"), **HEAD)
    same.save_pretrained(tmp_path)
    assert not any("base_layer" in name for name in load_file(tmp_path / TENSORS))
    other = drawn("adalora_core", resized(tmp_path / "base", 1), **HEAD)
    other.save_pretrained(tmp_path, save_embedding_layers=False)
    assert not any("embed" in name for name in load_file(tmp_path / TENSORS))


HEAD = {"target_modules": ["q_proj", "lm_head"]}
WRONG = {
    "a shape": ("lm_head.base_layer.weight", torch.ones(21, 16), r"has shape \[21, 16\]"),
    "a dtype": ("lm_head.weight", torch.ones(20, 16, dtype=torch.int8), "is of torch.int8"),
    "a layer": ("model.norm.weight", torch.ones(16), "the first is 'model.norm.weight'"),
    "a head's part": ("lm_head.other", torch.ones(16), "the first is 'lm_head.other'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_other_tensors_of_the_base_model_are_refused(case: str, tmp_path: Path) -> None:
    name, values, message = WRONG[case]
    drawn("adalora_core", llama(), **HEAD).save_pretrained(tmp_path)
    tensors = load_file(tmp_path / TENSORS) | {f"base_model.model.{name}": values}
    save_file(tensors, tmp_path / TENSORS)
    base = llama()
    before = base.state_dict()
    with pytest.raises(CheckpointError, match=message):
        AdaLoraModel.from_pretrained(base, tmp_path)
    assert before.keys() == base.state_dict().keys()
    torch.testing.assert_close(base.state_dict(), before)
