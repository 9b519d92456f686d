"""Probe what can be adapted, and where a configuration comes from; see feature_probes.py."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import importlib
import io
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from probe_setting import SETTINGS, Small, llama, make, need, need_equal, outputs, train
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable

IDS = torch.arange(8).reshape(1, 8)
LANGUAGE = {"target_modules": ["q_proj"], "task_type": "CAUSAL_LM"}


# --- targets --------------------------------------------------------------------------------------


def learns(base: nn.Module, x: torch.Tensor, target: str, **changes: Any) -> Callable[[str], None]:
    """Return a probe that adapts the module `target` of `base` and finds a gradient there."""

    def run(library: str) -> None:
        model = make(library, copy.deepcopy(base), target_modules=[target], **changes)
        result = model(x)
        (result[0] if isinstance(result, tuple) else result).square().sum().backward()
        found = [p.grad for name, p in model.named_parameters() if ".lora_B." in name]
        need(bool(found) and all(grad is not None for grad in found), "no gradient")

    return run


class Attention(nn.Module):
    """Self-attention of torch."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Attend from `x` to itself."""
        return self.attention(x, x, x)[0]


def quantised(**options: Any) -> Callable[[str], None]:
    """Return a probe that adapts a model that bitsandbytes has quantised."""

    def run(library: str) -> None:
        from transformers import BitsAndBytesConfig, LlamaForCausalLM

        with tempfile.TemporaryDirectory() as folder:
            llama().save_pretrained(folder)
            with contextlib.redirect_stderr(io.StringIO()):
                base = LlamaForCausalLM.from_pretrained(
                    folder, quantization_config=BitsAndBytesConfig(**options)
                )
        model = make(library, base, **LANGUAGE).train()
        model(input_ids=IDS, labels=IDS).loss.backward()
        model.base_model.update_and_allocate(0)

    return run


def replicated(library: str) -> None:
    """Stack layers of the base model again."""
    model = make(library, llama(), layer_replication=[[0, 1], [0, 1]], **LANGUAGE)
    need(len(model.get_base_model().model.layers) == 2, "no layer was added")


def tied_copies(library: str) -> None:
    """Train a head whole that is tied to the embedding, and keep the two tied."""
    base = llama(tie_word_embeddings=True)
    model = make(
        library, base, modules_to_save=["embed_tokens"], ensure_weight_tying=True, **LANGUAGE
    )
    core = model.get_base_model()
    copies = [
        module.modules_to_save["default"].weight
        for module in (core.model.embed_tokens, core.lm_head)
    ]
    need(copies[0] is copies[1], "the copies are not tied")


def head_of_task(library: str) -> None:
    """Train the head of a classifier whole without naming it."""
    from transformers import LlamaForSequenceClassification

    base = LlamaForSequenceClassification(llama().config)
    model = make(library, base, target_modules=["q_proj"], task_type="SEQ_CLS")
    names = [name for name, p in model.named_parameters() if p.requires_grad and "score" in name]
    need(bool(names), "the head is frozen")


def tied_target(library: str) -> None:
    """Adapt a head that is tied to the embedding."""
    settings = {**LANGUAGE, "target_modules": ["lm_head"]}
    model = make(library, llama(tie_word_embeddings=True), **settings)
    model.train()(input_ids=IDS, labels=IDS).loss.backward()
    model.base_model.update_and_allocate(0)


def layers_by_number(library: str) -> None:
    """Adapt some layers by number."""
    base = llama(num_hidden_layers=3)
    model = make(library, base, layers_to_transform=[1], layers_pattern="layers", **LANGUAGE)
    names = [name for name, _ in model.named_parameters() if ".lora_E." in name]
    need([".layers.1." in name for name in names] == [True], "other layers are adapted")


def first_factors(library: str) -> None:
    """Begin with small factors, for tests."""
    model = make(library, init_lora_weights=False)
    need(not torch.equal(outputs(model), outputs(model.unload())), "the adapter does nothing")


def dropout(library: str) -> None:
    """Drop inputs of the adapter in training, and none in evaluation."""
    model = make(library, init_lora_weights=False, lora_dropout=0.5).train()
    x = torch.ones(4, 8)
    first, second = (model(x).logits for _ in range(2))
    need(not torch.equal(first, second), "no dropout in training")
    need_equal(outputs(model), outputs(model), 0.0)


# --- configuration --------------------------------------------------------------------------------


def config_of(library: str, **changes: Any) -> Any:
    """Return a configuration."""
    return importlib.import_module(library).AdaLoraConfig(**{**SETTINGS, **changes})


def config_round_trip(library: str) -> None:
    """Save a configuration and load it with the class."""
    config = config_of(library)
    with tempfile.TemporaryDirectory() as folder:
        config.save_pretrained(folder)
        need(type(config).from_pretrained(folder).init_r == 4, "another value")


def other_config(library: str) -> None:
    """Take the configuration of the other library."""
    other = {"peft": "adalora_core", "adalora_core": "peft"}[library]
    train(importlib.import_module(library).get_peft_model(Small(), config_of(other)))


def copied_config(library: str) -> None:
    """Change a field with `dataclasses.replace`, and list all with `asdict`."""
    config = dataclasses.replace(config_of(library), init_r=6)
    need(dataclasses.asdict(config)["init_r"] == 6, "another value")


def pattern_of_a_model(library: str) -> None:
    """Begin with the rank pattern of a trained model."""
    pattern = train(make(library)).peft_config["default"].rank_pattern
    make(library, rank_pattern=dict(pattern))


def numbers_of_numpy(library: str) -> None:
    """Take NumPy's numbers, and save them."""
    config = config_of(library, init_r=np.int64(4), total_step=np.int64(30))
    model = train(importlib.import_module(library).get_peft_model(Small(), config))
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        need(json.loads(Path(folder, "adapter_config.json").read_text())["init_r"] == 4, "lost")


def same_object(library: str) -> None:
    """Keep the object that was passed, so that later assignments count."""
    config = config_of(library)
    model = importlib.import_module(library).get_peft_model(Small(), config)
    need(model.peft_config["default"] is config, "a copy is kept")


def any_method(library: str) -> None:
    """Read the configuration of another method by its file."""
    with tempfile.TemporaryDirectory() as folder:
        importlib.import_module("peft").LoraConfig().save_pretrained(folder)
        module = importlib.import_module(library)
        need(module.PeftConfig.from_pretrained(folder).peft_type == "LORA", "another method")


def base_by_name(library: str) -> None:
    """Load the base model that the configuration of an adapter names."""
    module = importlib.import_module(library)
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as adapter:
        llama().save_pretrained(folder)
        make("peft", type(llama()).from_pretrained(folder), **LANGUAGE).save_pretrained(adapter)
        module.AutoPeftModelForCausalLM.from_pretrained(adapter)
