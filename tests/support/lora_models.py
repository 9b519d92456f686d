"""Build tiny models of many architectures, and read the headers that `save_pretrained` writes."""

from __future__ import annotations

import copy
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import transformers
from safetensors.torch import save_file
from torch import nn

from adalora_core.checker.plan.modules import BaseModel, read_model

if TYPE_CHECKING:
    from collections.abc import Callable

HIDDEN = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2}
EXPERTS = {"num_experts_per_tok": 2, "num_key_value_heads": 1}


class Pictures(nn.Module):
    """Convolutions of one to three dimensions, an attention of torch's, a table, biases or none."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(6, 24, 3, bias=False)
        self.line = nn.Conv1d(24, 16, 5)
        self.room = nn.Conv3d(4, 16, (1, 3, 2))
        self.blocks = nn.ModuleList(nn.MultiheadAttention(16, 2) for _ in range(3))
        self.embed_tokens = nn.Embedding(50, 16)
        self.norm = nn.LayerNorm(16)
        self.out = nn.Linear(16, 10)
        self.odd = nn.ModuleDict({"q+v": nn.Linear(16, 4)})


def _gpt2() -> nn.Module:
    sizes = {"n_embd": 16, "n_layer": 3, "n_head": 2, "n_inner": 24, "n_positions": 12}
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(vocab_size=40, **sizes))


def _t5() -> nn.Module:
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2}
    return transformers.T5ForConditionalGeneration(transformers.T5Config(vocab_size=40, **sizes))


def _llama(*, tied: bool) -> nn.Module:
    config = transformers.LlamaConfig(
        **HIDDEN, intermediate_size=24, num_key_value_heads=1, tie_word_embeddings=tied
    )
    return transformers.LlamaForCausalLM(config)


def _qwen_experts() -> nn.Module:
    sizes = {"intermediate_size": 24, "moe_intermediate_size": 12, "head_dim": 8, "num_experts": 4}
    config = transformers.Qwen3MoeConfig(**HIDDEN, **EXPERTS, **sizes)
    return transformers.Qwen3MoeForCausalLM(config)


def _mixtral() -> nn.Module:
    config = transformers.MixtralConfig(
        **HIDDEN, **EXPERTS, intermediate_size=12, num_local_experts=4, head_dim=8
    )
    return transformers.MixtralForCausalLM(config)


def _gpt_oss() -> nn.Module:
    config = transformers.GptOssConfig(
        **HIDDEN, **EXPERTS, intermediate_size=12, num_local_experts=4, head_dim=8
    )
    return transformers.GptOssForCausalLM(config)


def _neox() -> nn.Module:
    config = transformers.GPTNeoXConfig(**HIDDEN, intermediate_size=24)
    return transformers.GPTNeoXForCausalLM(config)


def _bert() -> nn.Module:
    config = transformers.BertConfig(
        **HIDDEN, intermediate_size=24, max_position_embeddings=12, num_labels=3
    )
    return transformers.BertForSequenceClassification(config)


def _whisper() -> nn.Module:
    layers = {f"{side}_layers": 2 for side in ("encoder", "decoder")}
    heads = {f"{side}_attention_heads": 2 for side in ("encoder", "decoder")}
    widths = {"encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "d_model": 16, "num_mel_bins": 8}
    tokens = {"vocab_size": 40, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    tokens |= {"decoder_start_token_id": 1, "max_source_positions": 20, "max_target_positions": 12}
    config = transformers.WhisperConfig(**layers, **heads, **widths, **tokens)
    return transformers.WhisperForConditionalGeneration(config)


def _convnext() -> nn.Module:
    config = transformers.ConvNextConfig(
        num_channels=3, hidden_sizes=[8, 12, 16, 20], depths=[1, 1, 1, 1], num_labels=3
    )
    return transformers.ConvNextForImageClassification(config)


def _vit() -> nn.Module:
    sizes = {k: n for k, n in HIDDEN.items() if k != "vocab_size"}
    config = transformers.ViTConfig(
        **sizes, intermediate_size=24, image_size=8, patch_size=4, num_labels=3
    )
    return transformers.ViTForImageClassification(config)


MODELS: dict[str, Callable[[], nn.Module]] = {
    "llama": lambda: _llama(tied=False),
    "llama, tied": lambda: _llama(tied=True),
    "gpt2": _gpt2,
    "gpt_neox": _neox,
    "bert": _bert,
    "t5": _t5,
    "qwen3_moe": _qwen_experts,
    "mixtral": _mixtral,
    "gpt_oss": _gpt_oss,
    "whisper": _whisper,
    "convnext": _convnext,
    "vit": _vit,
    "plain torch": Pictures,
}


@cache
def built(name: str) -> nn.Module:
    """Return a model, which nobody may change."""
    transformers.logging.set_verbosity_error()
    return MODELS[name]().eval()


def fresh(name: str) -> nn.Module:
    """Return a copy of a model, always with the same weights."""
    return copy.deepcopy(built(name))


@cache
def header(name: str, dtype: torch.dtype = torch.float32) -> BaseModel:
    """Return what the command `plan` reads from the files of a model."""
    model = fresh(name).to(dtype)
    with tempfile.TemporaryDirectory() as folder:
        if isinstance(model, transformers.PreTrainedModel):
            model.save_pretrained(folder)
        else:
            tensors: dict[str, torch.Tensor] = model.state_dict()
            save_file(tensors, Path(folder, "model.safetensors"))
        return read_model(folder)
