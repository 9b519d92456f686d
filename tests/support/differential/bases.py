"""Build the tiny base models that drawn configurations are trained on, one per architecture."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
import transformers
from torch import nn

from adalora_core.commands.injection import base_model

TOKENS = 24
"""Size of the vocabulary of every text model."""

SPREAD = 0.2
"""Standard deviation of the weights: large, so that an adapter on any layer changes the outputs."""


def _llama() -> nn.Module:
    config = transformers.LlamaConfig(
        vocab_size=TOKENS, hidden_size=16, intermediate_size=20, num_hidden_layers=2,
        num_attention_heads=2, pad_token_id=0, initializer_range=SPREAD,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config)


def _bert() -> nn.Module:
    config = transformers.BertConfig(
        vocab_size=TOKENS, hidden_size=16, intermediate_size=20, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=16, num_labels=3,
        initializer_range=SPREAD,
    )  # fmt: skip
    return transformers.BertForSequenceClassification(config)


def _t5() -> nn.Module:
    config = transformers.T5Config(
        vocab_size=TOKENS, d_model=16, d_kv=8, d_ff=20, num_layers=1, num_decoder_layers=1,
        num_heads=2, decoder_start_token_id=0,
    )  # fmt: skip
    return transformers.T5ForConditionalGeneration(config)


def _vit() -> nn.Module:
    config = transformers.ViTConfig(
        hidden_size=16, intermediate_size=20, num_hidden_layers=2, num_attention_heads=2,
        image_size=8, patch_size=4, num_labels=3, initializer_range=SPREAD,
    )  # fmt: skip
    return transformers.ViTForImageClassification(config)


def _gpt2() -> nn.Module:
    config = transformers.GPT2Config(
        vocab_size=TOKENS,
        n_embd=16,
        n_layer=2,
        n_head=2,
        n_positions=16,
        n_inner=20,
        initializer_range=SPREAD,
    )
    return transformers.GPT2LMHeadModel(config)


def _tokens(labels: Callable[[torch.Tensor], torch.Tensor]) -> dict[str, torch.Tensor]:
    ids = torch.randint(4, TOKENS, (4, 6), generator=torch.Generator().manual_seed(5))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels(ids)}


def _language() -> dict[str, torch.Tensor]:
    return _tokens(torch.clone)


def _translation() -> dict[str, torch.Tensor]:
    batch = _language()
    return batch | {"decoder_input_ids": batch["labels"]}


def _classes() -> dict[str, torch.Tensor]:
    return _tokens(lambda ids: ids[:, 0] % 3)


def _images() -> dict[str, torch.Tensor]:
    pixels = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(5))
    return {"pixel_values": pixels, "labels": torch.arange(4) % 3}


@dataclass(frozen=True)
class Base:
    """One architecture.

    Attributes:
        build: makes the model with random weights.
        batch: one batch with labels.
        task: the task type that fits, None where the model has none.
        targets: names of two kinds of layers that are usually adapted.
        layers: name of the list of layers.
        head: name of the output head.
    """

    build: Callable[[], nn.Module]
    batch: Callable[[], dict[str, torch.Tensor]]
    task: str | None
    targets: tuple[str, str]
    layers: str
    head: str


BASES = {
    "llama": Base(_llama, _language, "CAUSAL_LM", ("q_proj", "v_proj"), "layers", "lm_head"),
    "bert": Base(_bert, _classes, "SEQ_CLS", ("query", "value"), "layer", "classifier"),
    "t5": Base(_t5, _translation, "SEQ_2_SEQ_LM", ("q", "v"), "block", "lm_head"),
    "vit": Base(_vit, _images, None, ("q_proj", "v_proj"), "layers", "classifier"),
    "gpt2": Base(_gpt2, _language, "CAUSAL_LM", ("c_attn", "c_fc"), "h", "lm_head"),
}


@cache
def _built(name: str) -> nn.Module:
    transformers.logging.set_verbosity_error()
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return BASES[name].build().eval()


def fresh(name: str) -> nn.Module:
    """Return a copy of a base model, always with the same weights."""
    return copy.deepcopy(_built(name))


@cache
def paths(name: str) -> dict[str, str]:
    """Return the class of every module of a base model by the module's path."""
    return {path: type(each).__name__ for path, each in _built(name).named_modules() if path}


@cache
def base(name: str) -> base_model.Base:
    """Return a base model as the command `plan` builds it."""
    with tempfile.TemporaryDirectory() as folder:
        _built(name).save_pretrained(folder)  # type: ignore[operator]
        return base_model.read_base(folder)
