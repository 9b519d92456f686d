"""Let PEFT inject a configuration into a model on the meta device, and count what it makes."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import peft
import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import set_peft_model_state_dict
from torch import nn

from adalora_core.checker.plan.modules import (
    FACTOR,
    Adapted,
    Injected,
    Kind,
    RefusedError,
)
from adalora_core.commands.injection import quiet
from adalora_core.commands.injection.base_model import Base, info_of
from adalora_core.commands.injection.hints import hint_of, hint_without, missed, notes_of
from adalora_core.config.fields.table import FIELDS, LORA_FIELDS
from adalora_core.floor.matching import Matcher
from adalora_core.floor.rank_pattern import TENSOR_PREFIX

if TYPE_CHECKING:
    from adalora_core.config.fields.block import Block

RELEASE = f"PEFT {peft.__version__}"
_ADAPTER = "default"
_OF_A_FILE = {
    "auto_mapping", "base_model_name_or_path", "inference_mode", "peft_type", "peft_version",
    "revision", "runtime_config",
}  # fmt: skip
"""Fields that change no tensor; PEFT trains nothing of an adapter in inference mode."""
_FROM_DATA = {"corda", "eva", "loftq", "lora_ga"}
"""Values of `init_lora_weights` that need data, or the weights."""
_ANY_SCHEDULE = {"tinit": 0, "tfinal": 0, "deltaT": 1, "total_step": 10}
_OF_AVERAGES = {"beta1": 0.85, "beta2": 0.85}
_OF_TRAINING = _OF_AVERAGES | {
    "target_r": 1, "orth_reg_weight": 0.5, "target_parameters": None, "lora_dropout": 0.0,
    "alpha_pattern": None,
}  # fmt: skip
"""Values that are not looked at where a saved adapter is loaded, which an injection would judge."""
_NEEDED = {"target_modules", "r", "lora_alpha", "init_r", "target_r", *_ANY_SCHEDULE}
_REFUSES = "refuses it"
_OF_COPIES = """list whole paths in modules_to_save, none of them inside another, and exclude the
targets inside with exclude_modules; PEFT takes every path that ends with an entry""".replace(
    "\n", " "
)
_LONGEST = 400
_WITHOUT_WEIGHTS = ("meta tensor", "meta device", "register_meta", "cuda", "no data")


def inject(block: Block, base: Base) -> Injected:
    """Return what PEFT, or `adalora_core` as the runtime, makes of a configuration.

    Raises:
        RefusedError: the configuration does not fit this model.
        ExpressionError: an expression may take long.
        RuntimeError: PEFT needs the weights of the model to answer.
    """
    _refuse_wrong_types(block)
    _refuse_slow_expressions(block, base)
    arguments, notes = _arguments(block)
    with quiet():
        what = _REFUSES
        try:
            made = _made(block, base, arguments)
            state = _saved(made)
            what = "cannot load what it saves"
            if block.runtime == "peft":
                set_peft_model_state_dict(made, {key: x.detach() for key, x in state.items()})
        except Exception as error:
            raise _refusal(error, what, block, base) from error
        found = _counted(made, state, base, _asked(block))
        notes = [*base.notes, *notes, *notes_of(block, made.peft_config[_ADAPTER], found)]
    _refuse_missing_rows(made)
    _refuse_ranks_of_others(block, found)
    return dataclasses.replace(found, notes=tuple(notes), missed=tuple(missed(found)))


def _refuse_slow_expressions(block: Block, base: Base) -> None:
    """Refuse an expression that PEFT may match for long."""
    path = max(base.described.modules, key=len, default="")
    for name in ("target_modules", "exclude_modules", "rank_pattern", "alpha_pattern"):
        given = block.values.get(name)
        expressions = list(given) if isinstance(given, dict) else []
        expressions += [given] if isinstance(given, str) else []
        with contextlib.suppress(re.error):  # which PEFT raises
            for each in expressions:
                Matcher().refuse_slow("fullmatch", each, path, name)


def _made(block: Block, base: Base, arguments: dict[str, Any]) -> Any:
    if block.runtime == "peft":
        config = peft.LoraConfig if block.is_lora else peft.AdaLoraConfig
        # With low memory PEFT unties the biases of replicated layers.
        is_low = not arguments.get("layer_replication")
        made = peft.get_peft_model(base.make(), config(**arguments), low_cpu_mem_usage=is_low)
        _widen(made)
        return made
    from adalora_core.config.model import AdaLoraConfig
    from adalora_core.training.model import get_peft_model

    return get_peft_model(base.make(), AdaLoraConfig(**arguments))


def _asked(block: Block) -> str:
    return RELEASE if block.runtime == "peft" else block.runtime


def _widen(made: Any) -> None:
    """Give factors on float64 its dtype, as PEFT does where the base holds data."""
    for layer in made.modules():
        if not isinstance(layer, BaseTunerLayer):
            continue
        found: Any = layer
        named = hasattr(found, "get_param")  # the wrapper of a parameter
        weight = found.get_param() if named else getattr(found.get_base_layer(), "weight", None)
        if getattr(weight, "dtype", None) is torch.float64:
            for name, child in found.named_children():
                if name.startswith("lora_"):
                    child.double()


def _refuse_wrong_types(block: Block) -> None:
    judged = block.faults("type", "integral-float", "nonfinite", "range")
    faults = (each.name for each in judged if not each.reading)
    known = LORA_FIELDS.keys() - block.deferred
    known -= {"lora_dropout"} if isinstance(block["lora_dropout"], int | float) else set()
    for name in sorted(known.intersection(faults)) if block.is_lora else ():
        kinds = " or ".join(kind.phrase for kind in LORA_FIELDS[name].kinds)
        kinds = "a number above 0, of 64 bits" if name in {"r", "lora_alpha"} else kinds
        message = f"{name} should be {kinds}, got {repr(block.values[name])[:60]}"
        raise RefusedError(name, message, "write a value that PEFT takes")


def _arguments(block: Block) -> tuple[dict[str, Any], list[str]]:
    """Return the arguments of the class of the configuration, and notes on those left out."""
    is_lora, notes = block.is_lora, []
    config = peft.LoraConfig if is_lora else peft.AdaLoraConfig
    known = {each.name for each in dataclasses.fields(config)} - _OF_A_FILE
    values = {**(block.tool.defaults if block.tool else {}), **block.values}
    absent = (each for each in sorted(values.keys() - known - _OF_A_FILE) if values[each])
    notes += [f"{RELEASE} has no field {each}: it is not planned" for each in absent]
    values = {name: x for name, x in values.items() if name in known}
    start = values.get("init_lora_weights")
    if is_lora and isinstance(start, str) and start in _FROM_DATA:
        values["init_lora_weights"] = True
        notes.append(f"init_lora_weights: {start!r} is planned as the default start")
    if is_lora:
        return values, notes
    if block.is_saved:
        values |= _OF_TRAINING if block.runtime == "adalora-core" else _OF_AVERAGES
        values |= {} if isinstance(values.get("target_r", 0), int | float) else {"target_r": 1}
    return values | _ANY_SCHEDULE | {"rank_pattern": None}, notes


def _saved(made: Any) -> dict[str, nn.Parameter]:
    """Return the saved tensors by their names in the file, as parameters of the model."""
    state = made.state_dict(keep_vars=True)
    if isinstance(made, peft.PeftModel):
        # Without the name of a base nobody looks for its vocabulary on the Hub.
        made.peft_config[_ADAPTER].base_model_name_or_path = None
        saved: dict[str, nn.Parameter] = peft.get_peft_model_state_dict(made, state_dict=state)
        return saved
    trained = (name for name, each in state.items() if getattr(each, "requires_grad", False))
    ends = (f".modules_to_save.{_ADAPTER}", f".{_ADAPTER}")
    return {name.replace(ends[0], "").removesuffix(ends[1]): state[name] for name in trained}


def _counted(made: Any, state: dict[str, nn.Parameter], base: Base, asked: str) -> Injected:
    trained = {
        name: info_of(each)
        for name, each in made.named_parameters()
        # PEFT trains the divisor of the scale on a base that is not float32: a defect, not a plan.
        if each.requires_grad and "ranknum" not in name
    }
    return Injected(
        base.described,
        tuple(_adapted(made, state, base)),
        {name: info_of(each) for name, each in state.items()},
        trained,
        tuple(name for name, each in state.items() if not each.requires_grad),
        asked=asked,
    )


def _adapted(made: Any, state: dict[str, nn.Parameter], base: Base) -> Iterator[Adapted]:
    tensors: defaultdict[str, dict[str, nn.Parameter]] = defaultdict(dict)
    for name, each in state.items():
        owner, found, rest = name.removeprefix(TENSOR_PREFIX).rpartition(FACTOR)
        if found:
            tensors[owner][f"{FACTOR[1:]}{rest}"] = each
    is_ours = not isinstance(made, peft.PeftModel)
    for owner, layer in made.base_model.model.named_modules():
        if owner not in tensors or not hasattr(layer, "scale" if is_ours else "scaling"):
            continue
        path = owner.replace(".base_layer", "")
        module = base.described.modules.get(path)
        kind: Kind = "attention" if module is None or module.kind == "other" else module.kind
        if hasattr(layer, "parameter_name"):
            path, kind = f"{path}.{layer.parameter_name}", "parameter"
        shapes = {name: tuple(each.shape) for name, each in tensors[owner].items()}
        info = info_of(next(iter(tensors[owner].values())))
        if is_ours:
            numbers = layer.rank, made.peft_config[_ADAPTER].lora_alpha, layer.scale
        else:
            alpha = layer.lora_alpha[_ADAPTER]
            numbers = layer.r[_ADAPTER], alpha, layer.scaling[_ADAPTER]
        yield Adapted(path, kind, *numbers, shapes, info.dtype, owner)


def _refusal(error: Exception, what: str, block: Block, base: Base) -> RefusedError:
    """Return what PEFT raised as a problem with a hint, unless the weights were missing."""
    text = " ".join(str(error).split())
    if any(part in text.lower() for part in _WITHOUT_WEIGHTS):
        raise RuntimeError(f"PEFT needs the weights to answer: {text[:_LONGEST]}") from error
    kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
    if len(text) > _LONGEST:  # the description of a whole module
        text = f"{text[: _LONGEST // 2]} ... {text[-_LONGEST // 2 :]}"
    message = f"{_asked(block)} {what}: {kind}{text}"
    if what != _REFUSES:
        return RefusedError("modules_to_save", message, _OF_COPIES)
    given, _ = _arguments(block)

    def is_taken(**values: Any) -> bool:
        try:
            _made(block, base, {name: x for name, x in (given | values).items() if x is not None})
        except Exception:  # noqa: BLE001 - whatever PEFT raises is a refusal
            return False
        return True

    others = [name for name, x in given.items() if x and name in FIELDS and name not in _NEEDED]
    for field in others:
        if is_taken(**{field: None}):
            return RefusedError(field, message, hint_without(field, base.described))
    hint = hint_of(block, base.described, lambda targets: is_taken(target_modules=targets))
    return RefusedError("target_modules", message, hint)


def _refuse_missing_rows(made: Any) -> None:
    """Refuse rows that an embedding does not have, which a tensor without data does not check."""
    for path, layer in made.named_modules():
        rows = getattr(layer, "token_indices", {}).get(_ADAPTER)
        weight = getattr(layer, "weight", None)
        if rows and isinstance(weight, torch.Tensor) and max(rows) >= len(weight):
            name = path.removeprefix(TENSOR_PREFIX).removesuffix(".token_adapter")
            message = f"{name} has {len(weight)} rows, and no row {max(rows)}"
            hint = "list tokens that the embedding has"
            raise RefusedError("trainable_token_indices", message, hint)


def _refuse_ranks_of_others(block: Block, found: Injected) -> None:
    """Refuse the pattern of a saved AdaLoRA that names modules without an adapter, as PEFT does."""
    if block.is_lora or block.runtime != "peft" or not (block.is_saved and block["rank_pattern"]):
        return
    paths = {each.path for each in found.adapted}
    for key in block["rank_pattern"]:
        path = key.removesuffix(f".{_ADAPTER}").rpartition(".")[0]
        if path not in paths:
            message = f"rank_pattern names {path!r}, which has no adapter in this model"
            hint = "write the paths of adapted modules, as PEFT does"
            raise RefusedError("rank_pattern", message, hint)
