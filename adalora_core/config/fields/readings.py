"""Read values in the types of JSON, and tell what a runtime makes of one of another type.

PEFT checks hardly any type. Some values of another type work, and a field that AdaLoRA does not
read may hold anything. The readings here follow from training and loading with PEFT 0.21.2, each
field with each type.
"""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Callable, Mapping, ValuesView
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from adalora_core.config.fields import value_kinds as kinds
from adalora_core.config.fields.table import FIELDS, LORA, PEFT_TYPE, Field, Method, Runtime
from adalora_core.floor.module_selection import heads_of

_MODULE_LISTS = frozenset({"target_modules", "exclude_modules"})
"""Fields that PEFT holds as sets: their order has no meaning, so they are stored sorted."""


def plain(value: Any, name: str = "") -> Any:
    """Turn enum members, collections of any kind and arrays of NumPy into the values of JSON.

    Example:
        >>> plain({"q": 1, "v": 2}.keys())
        ['q', 'v']
    """
    if isinstance(value, enum.Enum):
        return value.value
    if hasattr(value, "shape") and hasattr(value, "tolist"):
        value = value.tolist()  # of NumPy or torch: neither is imported here
    if isinstance(value, Mapping):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple, ValuesView)):
        entries = [plain(entry) for entry in value]
    elif isinstance(value, AbstractSet):
        entries = sorted((plain(entry) for entry in value), key=str)
    else:
        return value
    if name in _MODULE_LISTS and all(isinstance(entry, str) for entry in entries):
        return sorted(set(entries))
    return entries


def exact(value: Any, name: str) -> Any:
    """Return `plain(value, name)`, and an integer for a float like 8.0 where one is expected.

    Example:
        >>> exact(8.0, "init_r"), exact(0.0, "lora_dropout")
        (8, 0.0)
    """
    value = plain(value, name)
    field = FIELDS.get(name)
    if isinstance(value, float) and field is not None and kinds.INTEGER in field.kinds:
        return int(value) if value.is_integer() else value
    return value


@dataclass(frozen=True, slots=True)
class Reading:
    """The value that a runtime takes in place of one of another type.

    `value` is of the field's own type, with the same effect or the nearest one; `is_exact` if
    writing it changes nothing.
    """

    value: Any
    is_read: bool = True
    is_exact: bool = True


def reading_of(
    field: Field,
    value: Any,
    values: Mapping[str, Any],
    runtime: Runtime,
    method: Method = PEFT_TYPE,
) -> Reading | None:
    """Return what a runtime makes of a value of a wrong type, or None if it fails with it."""
    name = field.name
    is_ours = runtime == "adalora-core"
    of_lora = method == LORA and name in _READ_BY_LORA
    unread = Reading(field.fresh_default(), is_read=False)
    if isinstance(value, float):
        if value.is_integer() and kinds.INTEGER in field.kinds:
            is_taken = is_ours or name not in _EXACT_IN_PEFT or (name == "r" and not of_lora)
            if is_taken and abs(value) <= kinds.LARGEST_INTEGER:
                return Reading(int(value))
        elif is_ours and not values.get("inference_mode") and not math.isfinite(value):
            return None  # written, the file would not be JSON
    if not of_lora and (name in UNREAD or _is_ignored(name, values, is_ours=is_ours)):
        return unread
    if not value and _is_null_if_empty(name, value, values, runtime, of_lora=of_lora):
        return Reading(field.fresh_default())
    if name in FLAGS and not (of_lora and name == "init_lora_weights" and value):
        return Reading(bool(value), is_exact=not value or value == 1)
    if of_lora:
        return Reading(int(value)) if name == "lora_alpha" and isinstance(value, bool) else None
    if field.is_number and name not in _EXACT_IN_PEFT:
        return _number_of(field, value, values, is_ours=is_ours)
    return _READERS[name](value, values, unread) if name in _READERS else None


_READ_BY_LORA = frozenset({
    "r", "use_rslora", "use_qalora", "megatron_config", "init_lora_weights", "lora_alpha",
    "rank_pattern", "alpha_pattern", "target_parameters", "monteclora_config",
})  # fmt: skip
"""Fields that LoRA reads, and AdaLoRA does not or otherwise."""
_NULL_IN_LORA = frozenset({"megatron_config", "target_parameters", "monteclora_config"})
"""Those of which an empty value of another type has the effect of null."""

_EXACT_IN_PEFT = frozenset({"r", "init_r", "layers_to_transform"})
"""Fields for which PEFT does not take 12.0 in place of 12: a size, and what is not a list then."""

UNREAD = frozenset({
    "auto_mapping", "peft_version", "base_model_name_or_path", "revision", "r", "use_rslora",
    "megatron_config", "megatron_core", "use_qalora", "qalora_group_size", "runtime_config",
})  # fmt: skip
"""Fields that neither training nor loading reads."""

NOT_LOADED = frozenset({"target_r", "deltaT", "beta1", "beta2"})
"""Settings of the allocator, which a saved adapter does not get."""

_NOT_LOADED_HERE = NOT_LOADED | {"tinit", "tfinal", "total_step", "orth_reg_weight"}
"""The settings that this package does not read either; PEFT compares the first three."""


def _is_ignored(name: str, values: Mapping[str, Any], *, is_ours: bool) -> bool:
    if values.get("inference_mode"):
        return name in (_NOT_LOADED_HERE if is_ours else NOT_LOADED)
    # In the warm-up PEFT compares the step with tinit, and does not come to the target.
    tinit, total = values.get("tinit", 0), values.get("total_step")
    is_warmup = type(tinit) is type(total) is int and 0 < total <= tinit + 1
    return is_warmup and name == "target_r" and not is_ours


FLAGS = frozenset(name for name, field in FIELDS.items() if kinds.BOOLEAN in field.kinds)
"""Fields of which only the truth is read, as Python has it: "false" is true."""

_EMPTY_IS_NULL = frozenset({
    "exclude_modules", "modules_to_save", "alpha_pattern", "alora_invocation_tokens",
    "layer_replication", "target_parameters", "rank_pattern",
})  # fmt: skip
"""Fields of which an empty value of another type, such as false, has the effect of null."""


def _is_null_if_empty(
    name: str, value: Any, values: Mapping[str, Any], runtime: Runtime, *, of_lora: bool
) -> bool:
    if of_lora and name not in _NULL_IN_LORA:
        return False
    if runtime == "peft" and name == "target_parameters":
        return not isinstance(value, str)  # PEFT refuses every text
    if runtime == "peft" and name == "rank_pattern":
        return not values.get("inference_mode")  # loading reads the items
    if runtime == "peft" and name == "modules_to_save":
        return not heads_of(values.get("task_type"))  # PEFT adds them to the value itself
    return of_lora or name in _EMPTY_IS_NULL


def _is_finite(number: float) -> bool:
    """Return whether a number is one of the floats, which long integers exceed."""
    try:
        return math.isfinite(number)
    except OverflowError:
        return False


def _is_without_pattern(name: str, values: Mapping[str, Any]) -> bool:
    """Return whether PEFT comes to the final phase without a rank pattern, and fails there.

    It makes one at each allocation, and at the step total_step - tfinal if that is an integer.
    """
    tinit, every = values.get("tinit", 0), values.get("deltaT", 1)
    total_step, tfinal = values.get("total_step"), values.get("tfinal", 0)
    numbers = (tinit, every, total_step, tfinal)
    if name not in {"tfinal", "total_step"} or not all(
        isinstance(each, (int, float)) and _is_finite(each) for each in numbers
    ):
        return False
    start = total_step - tfinal
    first = tinit // every * every + every if every else start
    return bool(start % 1 != 0 and math.ceil(start) < total_step and first > start)


def _number_of(
    field: Field, value: Any, values: Mapping[str, Any], *, is_ours: bool
) -> Reading | None:
    name, is_saved = field.name, bool(values.get("inference_mode"))
    # True is not a number of steps.
    is_word = is_ours and name == "total_step" and isinstance(value, bool)
    if is_word or not isinstance(value, (int, float)):
        return None
    if not math.isfinite(value):
        is_unread = is_saved or (name == "orth_reg_weight" and not values.get("task_type"))
        return _not_finite(name, value, is_unread=is_unread)
    if not is_ours and not is_saved and _is_without_pattern(name, values):
        return None
    return _number(field, value)


def _number(field: Field, value: float) -> Reading:
    """Read a finite number of another type than the field's."""
    name = field.name
    if isinstance(value, bool):
        return Reading(int(value) if kinds.INTEGER in field.kinds else float(value))
    if name == "lora_alpha":
        return Reading(value, is_exact=False)
    if name == "deltaT":
        # The steps that are multiples of 5/2 are those of 5.
        nearest = min(value.as_integer_ratio()[0], kinds.LARGEST_INTEGER)
    elif name == "tfinal" and value >= 1:
        nearest = math.ceil(value)  # the final phase starts no later
    else:
        nearest = max(1, int(value)) if name == "target_r" and value > 0 else math.floor(value)
    return Reading(nearest, is_exact=False)


def _not_finite(name: str, value: float, *, is_unread: bool) -> Reading | None:
    """Read NaN or infinity, which PEFT compares and divides as it does any number.

    PEFT only compares the value (`is_unread`) in a saved adapter, and of a penalty on the loss of a
    model without a task type, which gets none.
    """
    is_nan = math.isnan(value)
    if name == "deltaT":
        return Reading(kinds.LARGEST_INTEGER, is_exact=False)  # no step is a multiple of it
    if is_nan and name in {"lora_dropout", "lora_alpha"}:
        return Reading(0, is_exact=False)  # it is not above 0
    if is_nan and name == "tfinal":
        return Reading(0, is_read=False, is_exact=False)  # no step is in a phase
    if is_unread and (name in {"orth_reg_weight", "total_step"} or (is_nan and name == "tinit")):
        return Reading(kinds.LARGEST_INTEGER, is_read=False, is_exact=False)
    return None


def _keys(value: Any, *_: Any) -> Reading | None:
    """Read an object as the list of its keys, the names over which PEFT iterates."""
    is_read = isinstance(value, dict) and value and all(isinstance(key, str) for key in value)
    return Reading(list(value)) if is_read else None


def _names(value: Any, *_: Any) -> Reading | None:
    """Read the entries of a list as text, which PEFT does by formatting them."""
    if isinstance(value, list) and not any(isinstance(entry, (list, dict)) for entry in value):
        return Reading([entry if isinstance(entry, str) else str(entry) for entry in value])
    return _keys(value)


def _layers_pattern(value: Any, values: Mapping[str, Any], unread: Reading) -> Reading | None:
    if values.get("layers_to_transform") == []:
        return unread
    is_used = values.get("layers_to_transform") is not None
    if value in (0, {}) and not (is_used and value == 0):
        return Reading("", is_exact=False)
    return _names(value)


def _layers(value: Any, *_: Any) -> Reading | None:
    """Read indices as PEFT compares them with those of the model: true is 1, and "1" is none."""
    if isinstance(value, bool):
        return Reading(int(value))
    if not isinstance(value, list):
        return None
    numbers = [entry for entry in value if isinstance(entry, (int, float))]
    indices = [int(each) for each in numbers if _is_finite(each) and each == int(each)]
    return Reading(indices, is_exact=len(indices) == len(value)) if indices else None


def _pairs(value: Any, *_: Any) -> Reading | None:
    """Read pairs of layers in which true is 1."""
    pairs = value if isinstance(value, list) else []
    if not all(isinstance(each, list) and len(each) == 2 for each in pairs):  # noqa: PLR2004 - pairs
        return None
    numbers = [number for pair in pairs for number in pair]
    if not numbers or not all(isinstance(number, int) for number in numbers):
        return None
    return Reading([[int(number) for number in pair] for pair in pairs])


_NO_EXPRESSION = re.compile(r"[\w. -]*")


def _pattern(value: Any, _values: Mapping[str, Any], unread: Reading) -> Reading | None:
    """Ignore a list or a text in place of an object; PEFT compiles its parts as expressions."""
    parts = value if isinstance(value, list) else [value]
    is_text = not isinstance(value, (bool, int, float))
    is_plain = is_text and all(_NO_EXPRESSION.fullmatch(str(each)) for each in parts)
    return unread if is_plain else None


_READERS: dict[str, Callable[[Any, Mapping[str, Any], Reading], Reading | None]] = {
    # PEFT shares the code with its other methods, and looks at the end of the word.
    "bias": lambda value, *_: Reading("lora_only") if str(value).endswith("_only") else None,
    "target_modules": _keys,
    "exclude_modules": _names,
    "modules_to_save": _keys,
    "layers_pattern": _layers_pattern,
    "layer_replication": _pairs,
    "layers_to_transform": _layers,
    "alpha_pattern": _pattern,
    # Training overwrites the pattern, and loading reads it.
    "rank_pattern": lambda value, values, unread: (
        None if values.get("inference_mode") else _pattern(value, values, unread)
    ),
    # No parameter has such a name; a list of names is judged by its rule.
    "target_parameters": lambda value, _, unread: (
        unread if isinstance(value, (list, dict)) else None
    ),
    "loftq_config": lambda _, values, unread: (
        None if values.get("init_lora_weights") == "loftq" else unread
    ),
    "monteclora_config": lambda value, _, unread: None if isinstance(value, dict) else unread,
    # Only models of this task pass the tokens on, and fail.
    "alora_invocation_tokens": lambda _, values, unread: (
        None if values.get("task_type") == "CAUSAL_LM" else unread
    ),
}
