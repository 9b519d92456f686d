"""Draw configurations of LoRA, and compare the plan of each with what PEFT injects."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import peft
import torch
from lora_models import MODELS, built, fresh, header
from peft.tuners.lora import LoraLayer
from torch import nn
from transformers.pytorch_utils import Conv1D

from adalora_core.checker.plan.lora import match_lora
from adalora_core.config.fields.block import Block

if TYPE_CHECKING:
    import random

    from adalora_core.checker.plan.lora import LoraMatch
    from adalora_core.checker.plan.modules import BaseModel

TASKS = {"bert": "SEQ_CLS", "t5": "SEQ_2_SEQ_LM", "whisper": None, "vit": None, "convnext": None}
TASKS["plain torch"] = None
LAYERS = (nn.Linear, Conv1D, nn.Embedding, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.MultiheadAttention)
EXPERTS = {
    "qwen3_moe": [["gate_proj", "up_proj"], ["gate_proj", "up_proj", "down_proj"], ["gate"]],
    "mixtral": [["w1", "w2", "w3"], ["w1"], ["gate"]],
    "gpt_oss": [],
}
PARAMETERS = ["mlp.experts.gate_up_proj", "experts.down_proj"]


@dataclass
class Injected:
    """What PEFT made, or why nothing: shapes in the file, ranks and scales, trained numbers."""

    tensors: dict[str, tuple[int, ...]]
    scales: dict[str, tuple[int, float]]
    trained: int
    error: str = ""


def injected(name: str, fields: dict[str, Any]) -> Injected:
    """Return what PEFT makes of a configuration."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            model = peft.get_peft_model(fresh(name), peft.LoraConfig(**fields))
        except Exception as error:  # noqa: BLE001 - whatever PEFT raises is a refusal
            return Injected({}, {}, 0, f"{type(error).__name__}: {error}"[:300])
        state = peft.get_peft_model_state_dict(model)
    scales = {
        path: (module.r["default"], module.scaling["default"])
        for path, module in model.base_model.model.named_modules()
        if isinstance(module, LoraLayer) and "default" in module.r
    }
    trained = sum(each.numel() for each in model.parameters() if each.requires_grad)
    tensors = {key.removeprefix("base_model.model."): tuple(t.shape) for key, t in state.items()}
    return Injected(tensors, scales, trained)


def planned(name: str, fields: dict[str, Any], model: BaseModel | None = None) -> LoraMatch:
    """Return what the plan makes of a configuration, for the model of a name or another one."""
    return match_lora(Block({"peft_type": "LORA", **fields}), model or header(name))


def disagreement(name: str, fields: dict[str, Any]) -> str:
    """Return how the plan of a configuration differs from what PEFT makes of it, or nothing."""
    real, plan = injected(name, fields), planned(name, fields)
    if real.error or plan.problems:
        told = [each.message for each in plan.problems]
        return "" if real.error and told else f"PEFT {real.error or 'accepts'}, plan {told}"
    own = {
        f"{each.owner}.{tensor}": shape
        for each in plan.adapted
        for tensor, shape in each.tensors.items()
    }
    theirs = {key: shape for key, shape in real.tensors.items() if ".lora_" in f".{key}"}
    if own != theirs:
        return f"tensors: {sorted(set(own.items()) ^ set(theirs.items()))[:6]}"
    scales = {each.owner: (each.rank, each.scale) for each in plan.adapted}
    if scales != real.scales:
        return f"scales: {sorted(set(scales.items()) ^ set(real.scales.items()))[:6]}"
    if plan.trained != real.trained:
        return f"trained: PEFT {real.trained}, plan {plan.trained}"
    count = sum(torch.Size(shape).numel() for shape in real.tensors.values())
    in_file = sum(each.entries for each in plan.file().values())
    if in_file != count:
        return f"in the file: PEFT {count}, plan {in_file}"
    return ""


def drawn(rng: random.Random) -> tuple[str, dict[str, Any]]:
    """Draw a model and a configuration for it."""
    name = rng.choice(list(MODELS))
    modules = {path: each for path, each in built(name).named_modules() if path}
    layers = [path for path, each in modules.items() if isinstance(each, LAYERS)]
    fields: dict[str, Any] = {
        "r": rng.choice([1, 2, 3, 8, 16, 40]), "lora_alpha": rng.choice([1, 8, 16, 32]),
        "task_type": TASKS.get(name, "CAUSAL_LM") if rng.random() < 0.6 else None,
    }  # fmt: skip
    if rng.random() < 0.3:
        fields["use_rslora"] = True
    if rng.random() < 0.25:
        fields["use_dora"] = True
    fields["target_modules"] = _targets(rng, name, layers, list(modules))
    if rng.random() < 0.2 and not isinstance(fields["target_modules"], str):
        fields["layers_to_transform"] = rng.choice([0, 1, [0, 2], [1], []])
        if rng.random() < 0.5:
            fields["layers_pattern"] = rng.choice(["layers", "layer", ["h", "block"], "blocks"])
    if rng.random() < 0.25:
        fields["exclude_modules"] = rng.choice([
            _names(rng, layers, 1), rf".*{re.escape(_last(rng, layers))}", r".*\.0\..*",
        ])  # fmt: skip
    for pattern, values in (("rank_pattern", [1, 4, 6]), ("alpha_pattern", [2, 16, 24.0])):
        if rng.random() < 0.25:
            keys = (_key(rng, layers) for _ in range(rng.randint(1, 3)))
            fields[pattern] = {key: rng.choice(values) for key in keys}
    fields |= _rarer(rng, name, layers)
    return name, fields


def _rarer(rng: random.Random, name: str, layers: list[str]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if rng.random() < 0.15:
        fields["bias"] = rng.choice(["all", "lora_only"])
    if rng.random() < 0.1:
        fields["lora_bias"] = True
    if rng.random() < 0.1:
        # A number would also name copies inside copies, which PEFT saves and cannot load.
        fields["modules_to_save"] = [
            _last(rng, [path for path in layers if not path[-1].isdecimal()])
        ]
    if rng.random() < 0.1:
        fields["lora_dropout"] = 0.1
    if name in EXPERTS and rng.random() < 0.3:
        fields["target_parameters"] = rng.choice([PARAMETERS, PARAMETERS[:1], ["nowhere"]])
        if rng.random() < 0.3:
            fields["target_modules"] = rng.choice([[], None])
    if rng.random() < 0.08 and any("embed_tokens" in path for path in layers):
        fields["trainable_token_indices"] = rng.choice([[1, 3], {"embed_tokens": [0, 2, 5]}])
    return fields


def _targets(rng: random.Random, name: str, layers: list[str], paths: list[str]) -> Any:
    kind = rng.random()
    if kind < 0.15:
        return "all-linear"
    if kind < 0.2:
        return None
    if kind < 0.25:
        return [*_names(rng, layers, 1), "nowhere"]
    if kind < 0.3:
        return _names(rng, paths, 1)
    if kind < 0.4 and EXPERTS.get(name):
        return [*rng.choice(EXPERTS[name]), *_names(rng, layers, 1)]
    if kind < 0.65:
        ends = "|".join(map(re.escape, _names(rng, layers, rng.randint(1, 2))))
        return rng.choice([rf".*\.({ends})", rf".*\.[01]\..*({ends})", rf"({ends})"])
    return _names(rng, layers, rng.randint(1, 3))


def _last(rng: random.Random, paths: list[str]) -> str:
    return rng.choice(paths).rpartition(".")[2]


def _names(rng: random.Random, paths: list[str], count: int) -> list[str]:
    ends = (rng.choice(paths).split(".")[-rng.choice([1, 1, 1, 2, 9]) :] for _ in range(count))
    return [".".join(each) for each in ends]


def _key(rng: random.Random, layers: list[str]) -> str:
    path = rng.choice(layers)
    return rng.choice([
        path, path.rpartition(".")[2], f"^{re.escape(path)}", ".*proj.*", r"\w+\.\d+\..*q\w*",
        path.split(".")[0] + ".*", "nowhere", re.escape(path),
    ])  # fmt: skip
