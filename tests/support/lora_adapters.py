"""Make small adapters of every kind that PEFT saves, and read what one changes in its model."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import peft
import torch
import transformers
from safetensors.torch import load_file
from torch import nn


class Case(NamedTuple):
    """A base model, and the arguments of its configuration."""

    base: Callable[[], nn.Module]
    settings: dict[str, Any]
    kind: type[peft.PeftConfig] = peft.LoraConfig
    dtype: torch.dtype = torch.float32


class Blocks(nn.Module):
    """Two blocks whose names hold one another, hold dots' neighbours, and differ in size."""

    def __init__(self) -> None:
        super().__init__()
        self.q = nn.Linear(48, 40)
        self.z = nn.ModuleDict({"q": nn.Linear(40, 24), "q+v": nn.Linear(24, 32)})
        self.emb = nn.Embedding(50, 48)
        self.head = nn.Linear(32, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden: torch.Tensor = self.q(self.emb(x)).relu()
        return self.head(self.z["q+v"](self.z["q"](hidden)))


class Pictures(nn.Module):
    """Convolutions of one, two and three dimensions, one of them of one pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(6, 24, 3, stride=2, padding=1)
        self.point = nn.Conv2d(24, 32, 1)
        self.line = nn.Conv1d(32, 16, 5)
        self.room = nn.Conv3d(4, 16, (1, 3, 2))
        self.out = nn.Linear(16, 10)


def _llama(**settings: Any) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        sizes = {"hidden_size": 48, "intermediate_size": 80, "vocab_size": 64}
        heads = {"num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2}
        return transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes | heads | settings))

    return make


def _gpt2() -> nn.Module:
    sizes = {"n_embd": 48, "n_layer": 2, "n_head": 4, "vocab_size": 64, "n_positions": 32}
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes))


def _bert() -> nn.Module:
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "vocab_size": 64}
    config = transformers.BertConfig(**sizes, num_attention_heads=4, num_labels=3)
    return transformers.BertForSequenceClassification(config)


def _t5() -> nn.Module:
    sizes = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
    return transformers.T5ForConditionalGeneration(transformers.T5Config(**sizes, vocab_size=64))


def _vit() -> nn.Module:
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    config = transformers.ViTConfig(**sizes, num_attention_heads=4, image_size=16, patch_size=4)
    return transformers.ViTForImageClassification(config)


_TIED = {"tie_word_embeddings": True}
_ADALORA = {"init_r": 8, "target_r": 3, "tinit": 2, "tfinal": 4, "total_step": 20}

SEEN = {
    "lora": Case(Blocks, {"r": 8, "lora_alpha": 16, "target_modules": ["q", "q+v", "head"]}),
    "rslora": Case(
        _llama(), {"r": 16, "lora_alpha": 20, "use_rslora": True, "target_modules": "all-linear"}
    ),
    "adalora": Case(
        _llama(), {**_ADALORA, "target_modules": ["q_proj", "v_proj"]}, peft.AdaLoraConfig
    ),
    "tied head": Case(_llama(**_TIED), {"r": 6, "target_modules": ["embed_tokens", "lm_head"]}),
    "convolutions": Case(
        Pictures, {"r": 8, "lora_alpha": 4, "target_modules": ["stem", "point", "line", "room"]}
    ),
    "Conv1D": Case(_gpt2, {"r": 8, "target_modules": ["c_attn", "c_proj"], "fan_in_fan_out": True}),
    "patterns": Case(
        _llama(),
        {
            "r": 8,
            "lora_alpha": 12,
            "target_modules": ["q_proj", "v_proj", "down_proj"],
            "rank_pattern": {r".*\.1\..*": 12, "v_proj": 4},
            "alpha_pattern": {"layers.0.self_attn.q_proj": 5, "^model.layers.2.*": 2.5},
        },
    ),
    "classifier": Case(
        _bert, {"r": 8, "target_modules": ["query", "value"], "task_type": "SEQ_CLS", "bias": "all"}
    ),
    "half": Case(_llama(), {"r": 8, "target_modules": ["q_proj", "up_proj"]}, dtype=torch.bfloat16),
    "encoder and decoder": Case(_t5, {"r": 8, "target_modules": r".*\.(q|wo)"}),
}
"""The cases that the code was written with."""

SET_ASIDE = {
    "rslora, patterns": Case(
        _t5,
        {
            "r": 9,
            "lora_alpha": 7,
            "use_rslora": True,
            "target_modules": ["q", "v", "wi"],
            "rank_pattern": {"decoder.*q": 3},
            "alpha_pattern": {"EncDecAttention.v": 1, "wi": 30},
        },
    ),
    "adalora, Conv1D": Case(
        _gpt2, {**_ADALORA, "target_modules": ["c_attn"], "lora_alpha": 32}, peft.AdaLoraConfig
    ),
    "adalora, head": Case(
        _bert,
        {**_ADALORA, "target_modules": ["query", "dense"], "task_type": "SEQ_CLS", "bias": "all"},
        peft.AdaLoraConfig,
    ),
    "weights tied": Case(
        _llama(**_TIED),
        {"r": 6, "target_modules": ["embed_tokens", "q_proj"], "ensure_weight_tying": True},
    ),
    "tied copies": Case(
        _llama(**_TIED),
        {
            "r": 8,
            "target_modules": ["q_proj", "o_proj"],
            "modules_to_save": ["embed_tokens"],
            "ensure_weight_tying": True,
        },
    ),
    "patches": Case(_vit, {"r": 12, "target_modules": ["projection", "query", "q_proj"]}),
    "embedding": Case(
        Blocks, {"r": 10, "lora_alpha": 3, "target_modules": ["emb", "z.q"], "bias": "lora_only"}
    ),
    "layers": Case(
        _llama(),
        {
            "r": 8,
            "target_modules": ["q_proj", "k_proj", "gate_proj"],
            "layers_to_transform": [0, 2],
            "exclude_modules": ["layers.2.self_attn.k_proj"],
            "lora_dropout": 0.1,
            "init_lora_weights": "gaussian",
        },
    ),
    "new tokens": Case(
        _llama(), {"r": 8, "target_modules": "all-linear", "trainable_token_indices": [3, 60]}
    ),
    "float16": Case(
        Blocks,
        {"r": 16, "lora_alpha": 64, "use_rslora": True, "target_modules": ["q", "head"]},
        dtype=torch.float16,
    ),
}
"""The cases that it was judged by when it was finished."""

CASES = SEEN | SET_ASIDE


def base_of(case: Case) -> nn.Module:
    torch.manual_seed(3)
    return case.base().to(case.dtype)


def save(case: Case, folder: Path) -> None:
    """Write an adapter of the case with factors whose products have a spectrum that falls."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT warns of tied weights and saved embeddings
        config = case.kind(**case.settings)
        model: Any = peft.get_peft_model(base_of(case), config, autocast_adapter_dtype=False)
        torch.manual_seed(5)
        for place, (name, parameter) in enumerate(model.named_parameters()):
            if "lora_" in name and parameter.dim() > 1:
                falls = torch.linspace(0, 3, len(parameter)).neg().exp()
                shape = (-1, *[1] * (parameter.dim() - 1))
                values = torch.randn(parameter.shape) * falls.view(shape) * (0.2 + place % 5)
                parameter.data.copy_(values * 0.3)
            elif parameter.requires_grad:
                parameter.data.add_(torch.randn(parameter.shape).to(parameter.dtype) * 0.1)
        if case.kind is peft.AdaLoraConfig:
            for _, parameter in model.named_parameters():
                parameter.grad = torch.randn_like(parameter)
            for step in range(17):
                model.base_model.update_and_allocate(step)
        model.save_pretrained(folder)


def changes(case: Case, folder: Path) -> tuple[dict[str, np.ndarray], Any]:
    """Return what PEFT adds to each weight with the adapter in `folder`, and the model."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Model has `tie_word_embeddings")
        model = peft.PeftModel.from_pretrained(base_of(case), folder, autocast_adapter_dtype=False)
    tensors = load_file(folder / "adapter_model.safetensors")
    if model.active_peft_config.peft_type == peft.PeftType.LORA:  # others cannot load twice
        unexpected = peft.set_peft_model_state_dict(model, tensors).unexpected_keys
        # PEFT's own second name of a bias.
        assert all(".modules_to_save." in name for name in unexpected), unexpected
    model.double()
    return {
        path: layer.get_delta_weight("default").detach().numpy()
        for path, layer in model.base_model.model.named_modules()
        if hasattr(layer, "get_delta_weight") and "default" in layer.scaling
    }, model
