"""Draw configurations, and compare the plan of each with PEFT on the model that is really loaded.

PEFT is asked in another process, on the weights, and without its mode for low memory.
"""

from __future__ import annotations

import multiprocessing
import random
import re
import tempfile
import warnings
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Self

import peft
import torch
import transformers
from peft.tuners.lora import LoraLayer
from tiny_classes import CLASSES, save_tiny

from adalora_core.checker.plan.header import file_bytes
from adalora_core.checker.plan.modules import RefusedError
from adalora_core.commands.injection.base_model import Base, read_base
from adalora_core.commands.injection.injecting import inject
from adalora_core.config.fields.block import Block

Model = tuple[str, str]
"""The class of a tiny model and its dtype."""

TASKS = {
    "ForCausalLM": "CAUSAL_LM", "LMHeadModel": "CAUSAL_LM", "ForSequenceClassification": "SEQ_CLS",
    "ForTokenClassification": "TOKEN_CLS", "ForQuestionAnswering": "QUESTION_ANS",
    "ForConditionalGeneration": "SEQ_2_SEQ_LM",
}  # fmt: skip
SCHEDULE = {"tinit": 1, "tfinal": 2, "deltaT": 1, "total_step": 20}


@dataclass
class Outcome:
    """What PEFT made, or why nothing: shapes in the file, ranks and scales, numbers, bytes."""

    tensors: dict[str, tuple[int, ...]] = field(default_factory=dict)
    scales: dict[str, tuple[int, float]] = field(default_factory=dict)
    trained: int = 0
    size: int = 0
    error: str = ""


class Oracle:
    """A process that loads models and lets PEFT inject."""

    def __init__(self) -> None:
        self._pool = multiprocessing.get_context("spawn").Pool(1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.terminate()
        self._pool.join()

    def ask(self, model: Model, fields: dict[str, Any]) -> Any:
        """Return the promise of an outcome."""
        return self._pool.apply_async(injected, (str(folder_of(model)), model[0], fields))


@cache
def _root() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory()


@cache
def folder_of(model: Model) -> Path:
    """Return the folder of a tiny model of a class and a dtype."""
    name, dtype = model
    return save_tiny(name, Path(_root().name, *model), getattr(torch, dtype))


@cache
def base_of(model: Model) -> Base:
    """Return the model of a class and a dtype as the plan reads it."""
    return read_base(folder_of(model))


def injected(folder: str, name: str, fields: dict[str, Any]) -> Outcome:
    """Return what PEFT makes of a configuration on the loaded model."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    config = peft.AdaLoraConfig if "init_r" in fields else peft.LoraConfig
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as saved:
        warnings.simplefilter("ignore")
        try:
            base = getattr(transformers, name).from_pretrained(folder)
            model = peft.get_peft_model(base, config(**fields))
            model.save_pretrained(saved)
            if "modules_to_save" in fields:
                base = getattr(transformers, name).from_pretrained(folder)
                peft.PeftModel.from_pretrained(base, saved)
        except Exception as error:  # noqa: BLE001 - whatever PEFT raises is a refusal
            return Outcome(error=f"{type(error).__name__}: {error}"[:300])
        size = Path(saved, "adapter_model.safetensors").stat().st_size
        state = peft.get_peft_model_state_dict(model)
    scales = {
        path: (module.r["default"], module.scaling["default"])
        for path, module in model.base_model.model.named_modules()
        if isinstance(module, LoraLayer) and "default" in module.r
    }
    learning = (each for key, each in model.named_parameters() if "ranknum" not in key)
    trained = sum(each.numel() for each in learning if each.requires_grad)
    return Outcome({key: tuple(t.shape) for key, t in state.items()}, scales, trained, size)


def planned(model: Model, fields: dict[str, Any]) -> Outcome:
    """Return what the plan makes of a configuration."""
    method = "ADALORA" if "init_r" in fields else "LORA"
    try:
        found = inject(Block({"peft_type": method, **fields}), base_of(model))
    except RefusedError as error:
        return Outcome(error=error.message)
    tensors = {key: info.shape for key, info in found.file.items()}
    scales = {each.owner: (each.rank, each.scale) for each in found.adapted}
    return Outcome(tensors, scales, found.count, file_bytes(found.file))


def difference(real: Outcome, plan: Outcome) -> str:
    """Return how a plan differs from what PEFT makes, or nothing."""
    if real.error or plan.error:
        agree = bool(real.error) and bool(plan.error)
        return "" if agree else f"PEFT {real.error or 'accepts'}; plan {plan.error or 'accepts'}"
    for name in ("tensors", "scales"):
        own, theirs = (set(getattr(each, name).items()) for each in (plan, real))
        if own != theirs:
            return f"{name}: plan {sorted(own - theirs)[:4]}, PEFT {sorted(theirs - own)[:4]}"
    numbers = [(each.trained, each.size) for each in (plan, real)]
    return "" if numbers[0] == numbers[1] else f"numbers, bytes: plan and PEFT {numbers}"


def disagreements(rng: random.Random, count: int) -> list[str]:
    """Return how the plans of drawn configurations differ from what PEFT makes."""
    with Oracle() as oracle:
        draws = [drawn(rng) for _ in range(count)]
        asked = [(model, fields, oracle.ask(model, fields)) for model, fields in draws]
        return [
            f"{model} {fields}: {text}"
            for model, fields, promise in asked
            if (text := difference(plan=planned(model, fields), real=promise.get()))
        ]


def drawn(rng: random.Random) -> tuple[Model, dict[str, Any]]:
    """Draw a model and a configuration of LoRA, rsLoRA, DoRA or AdaLoRA for it."""
    name = rng.choice(CLASSES)
    model = name, rng.choice(["float32"] * 6 + ["bfloat16", "float16", "float64"])
    modules = base_of(model).described.modules
    layers = [path for path, each in modules.items() if each.kind != "other"]
    layers += [path for path, each in modules.items() if each.kind == "linear"] * 3
    task = next((task for end, task in TASKS.items() if name.endswith(end)), None)
    fields: dict[str, Any] = {"task_type": task if rng.random() < 0.6 else None}
    fields["target_modules"] = _targets(rng, layers, list(modules))
    fields |= _layers(rng, layers, fields["target_modules"])
    if rng.random() < 0.35:
        fields |= SCHEDULE | {"init_r": rng.choice([2, 4, 12]), "target_r": 1, "lora_alpha": 16}
    else:
        fields |= _of_lora(rng, layers)
    if rng.random() < 0.15:
        fields["bias"] = rng.choice(["all", "lora_only"])
    if rng.random() < 0.1:
        # A number would also name copies inside copies, which PEFT saves and cannot load.
        named = [path for path in layers if not path[-1].isdecimal()]
        fields["modules_to_save"] = [_last(rng, named)]
    if rng.random() < 0.08 and any("embed_tokens" in path for path in layers):
        fields["trainable_token_indices"] = rng.choice([[1, 3], {"embed_tokens": [0, 2, 5]}])
    return model, fields


def _of_lora(rng: random.Random, layers: list[str]) -> dict[str, Any]:
    fields: dict[str, Any] = {"r": rng.choice([1, 2, 3, 8, 16]), "lora_alpha": rng.choice([1, 8])}
    for name, share in (("use_rslora", 0.3), ("use_dora", 0.25), ("lora_bias", 0.08)):
        if rng.random() < share:
            fields[name] = True
    for pattern, values in (("rank_pattern", [1, 4, 6]), ("alpha_pattern", [2, 16, 24.0])):
        if rng.random() < 0.25:
            keys = (_key(rng, layers) for _ in range(rng.randint(1, 3)))
            fields[pattern] = {key: rng.choice(values) for key in keys}
    if rng.random() < 0.1:
        fields["lora_dropout"] = 0.1
    if rng.random() < 0.12:
        fields["init_lora_weights"] = rng.choice(["gaussian", "orthogonal", "pissa", "olora"])
    if rng.random() < 0.05:
        fields["layer_replication"] = [[0, 2], [1, 2]]
    if rng.random() < 0.08:
        fields["ensure_weight_tying"] = True
    if any("experts" in path for path in layers) or rng.random() < 0.03:
        experts = ["mlp.experts.gate_up_proj", "experts.down_proj"]
        fields["target_parameters"] = rng.choice(
            [experts, ["nowhere"], [f"{_last(rng, layers)}.weight"]]
        )
    return fields


def _layers(rng: random.Random, layers: list[str], targets: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if rng.random() < 0.2 and not isinstance(targets, str):
        fields["layers_to_transform"] = rng.choice([0, 1, [0, 2], [1], []])
        if rng.random() < 0.5:
            fields["layers_pattern"] = rng.choice(["layers", "layer", ["h", "block"], "blocks"])
    if rng.random() < 0.25:
        fields["exclude_modules"] = rng.choice([
            _names(rng, layers, 1), rf".*{re.escape(_last(rng, layers))}", r".*\.0\..*",
        ])  # fmt: skip
    return fields


def _targets(rng: random.Random, layers: list[str], paths: list[str]) -> Any:
    kind = rng.random()
    if kind < 0.15:
        return "all-linear"
    if kind < 0.2:
        return None
    if kind < 0.25:
        return [*_names(rng, layers, 1), "nowhere"]
    if kind < 0.3:
        return _names(rng, paths, 1)
    if kind < 0.4:
        usual = [["gate_proj", "up_proj", "down_proj"], ["w1", "w2", "w3"], ["gate", "q_proj"]]
        return rng.choice([*usual, ["query", "value"], ["q_proj", "v_proj"]])
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
