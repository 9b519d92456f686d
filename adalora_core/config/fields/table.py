"""The fields of PEFT's `AdaLoraConfig` and `LoraConfig` (0.21), and other spellings of them.

Model, schema, rules and plan are made from the table.
"""

from __future__ import annotations

import copy
import dataclasses
import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from adalora_core.config.fields import value_kinds as k
from adalora_core.floor.adapter_spec import CRITERIA, SENSITIVITY

PEFT_VERSION = "0.21"
"""The PEFT release whose fields and behaviour the contract describes."""

PEFT_TYPE: Final = "ADALORA"
LORA: Final = "LORA"

Method = Literal["ADALORA", "LORA"]
"""The method of a configuration, as `peft_type` names it."""

Runtime = Literal["peft", "adalora-core"]
"""The library that will train: under `peft`, a fault that crashes PEFT alone is an error too."""


class Treatment(enum.Enum):
    """The use that AdaLoRA makes of a field of LoRA."""

    HONOURED = "honoured"
    IGNORED = "ignored silently"
    REJECTED = "rejected at construction"
    BREAKS = "accepted, then breaks"


@dataclass(frozen=True, slots=True)
class Field:
    """One field of the wire format.

    Args:
        name: PEFT's name.
        kinds: the kinds of value that it accepts.
        default: the value that PEFT uses when the key is absent.
        summary: one line, the description in the schema and in the model.
        treatment: what AdaLoRA does with it.
        least, above, below: the closed lower and the open bounds of a number.
        choices: the allowed strings, if not all are.
        written: whether PEFT writes it into `adapter_config.json`.
        added: the PEFT release that added the key, if later than AdaLoRA itself.
    """

    name: str
    kinds: tuple[k.ValueKind, ...]
    default: Any
    summary: str
    treatment: Treatment = Treatment.HONOURED
    least: int | None = None
    above: int | None = None
    below: int | None = None
    choices: tuple[str, ...] | None = None
    written: bool = True
    added: str | None = None

    @property
    def is_number(self) -> bool:
        """Whether bounds apply."""
        return k.INTEGER in self.kinds or k.NUMBER in self.kinds

    def fresh_default(self) -> Any:
        """Return a default that the caller may change."""
        return copy.copy(self.default)


_IGNORED, _REJECTED, _BREAKS = Treatment.IGNORED, Treatment.REJECTED, Treatment.BREAKS
TASK_TYPES = (
    "SEQ_CLS", "SEQ_2_SEQ_LM", "CAUSAL_LM", "TOKEN_CLS", "QUESTION_ANS", "FEATURE_EXTRACTION",
)  # fmt: skip
BIASES = ("none", "all", "lora_only")

_TEXT = (k.STRING, k.NULL)
_FLAG = (k.BOOLEAN,)
_COUNT = (k.INTEGER,)
_REAL = (k.NUMBER,)
_MODULES = (k.STRINGS, k.STRING, k.NULL)
_NAMES = (k.STRINGS, k.NULL)
_MAPPING = (k.OBJECT, k.NULL)

# In PEFT's order, so that the two can be compared side by side.
_TABLE = (
    Field(
        "task_type",
        _TEXT,
        None,
        "Task of the model; selects PEFT's wrapper class.",
        choices=TASK_TYPES,
    ),
    Field("peft_type", (k.STRING,), PEFT_TYPE, "The method: ADALORA.", choices=(PEFT_TYPE,)),
    Field("auto_mapping", _MAPPING, None, "Base model class; filled in when task_type is null."),
    Field("peft_version", _TEXT, None, "PEFT release that wrote the file.", added="0.18.0"),
    Field("base_model_name_or_path", _TEXT, None, "The base model's id or folder."),
    Field("revision", _TEXT, None, "Revision of the base model."),
    Field("inference_mode", _FLAG, False, "Frozen adapter; true in every saved adapter."),
    Field("r", _COUNT, 8, "LoRA's rank; AdaLoRA starts from init_r instead.", _IGNORED),
    Field(
        "target_modules",
        _MODULES,
        None,
        "Modules to adapt: names (matched as suffixes), one regular expression over the whole "
        'module path, "all-linear", or null for a table by model type.',
    ),
    Field(
        "exclude_modules",
        _MODULES,
        None,
        "Modules to ignore, written like target_modules.",
        added="0.14.0",
    ),
    Field("lora_alpha", _COUNT, 8, "Numerator of the scale lora_alpha / init_r.", above=0),
    Field("lora_dropout", _REAL, 0.0, "Dropout on the adapter's input.", least=0, below=1),
    Field("fan_in_fan_out", _FLAG, False, "The layer stores its weight as [in, out]."),
    Field("bias", (k.STRING,), "none", "Which biases are trained too.", choices=BIASES),
    Field("use_rslora", _FLAG, False, "Rank-stabilised scale of LoRA.", _IGNORED, added="0.8.0"),
    Field("modules_to_save", _NAMES, None, "Modules trained and saved in full."),
    Field(
        "init_lora_weights",
        (k.BOOLEAN, k.STRING),
        True,
        "true: the adapter has no effect at the start; PEFT reads only whether it is true. "
        '"lora": the runtime adalora-core starts like LoRA.',
    ),
    Field(
        "layers_to_transform",
        (k.INTEGERS, k.INTEGER, k.NULL),
        None,
        "Adapt only the layers with these indices.",
    ),
    Field(
        "layers_pattern",
        _MODULES,
        None,
        "Name of the list of layers that layers_to_transform indexes.",
    ),
    Field(
        "rank_pattern",
        # Rule rank-pattern-shape judges the values, and explains LoRA's form.
        _MAPPING,
        None,
        "Which triplets of each matrix are kept: an output of training.",
    ),
    Field("alpha_pattern", _MAPPING, {}, "lora_alpha by module, for LoRA.", _IGNORED),
    Field("megatron_config", _MAPPING, None, "Megatron's parallel layers.", _IGNORED),
    Field("megatron_core", _TEXT, "megatron.core", "Module of Megatron.", _IGNORED),
    Field(
        "trainable_token_indices",
        (k.INTEGERS, k.TOKEN_INDICES, k.NULL),
        None,
        "Rows of the embedding that are trained too.",
        added="0.15.0",
    ),
    Field(
        "loftq_config",
        _MAPPING,
        {},
        "LoftQ quantisation; AdaLoRA does not support it.",
        _REJECTED,
        added="0.7.0",
    ),
    Field("eva_config", _MAPPING, None, "EVA initialisation.", _IGNORED, added="0.14.0"),
    Field("corda_config", _MAPPING, None, "CorDA initialisation.", _IGNORED, added="0.15.0"),
    Field("lora_ga_config", _MAPPING, None, "LoRA-GA initialisation.", _IGNORED, added="0.19.0"),
    Field("use_dora", _FLAG, False, "DoRA; AdaLoRA does not support it.", _REJECTED, added="0.9.0"),
    Field("velora_config", _MAPPING, None, "VeLoRA's backward.", _IGNORED, added="0.20.0"),
    Field(
        "alora_invocation_tokens",
        (k.INTEGERS, k.NULL),
        None,
        "Activated LoRA's tokens.",
        _BREAKS,
        added="0.18.0",
    ),
    Field("use_qalora", _FLAG, False, "QALoRA.", _IGNORED, added="0.16.0"),
    Field("qalora_group_size", _COUNT, 16, "QALoRA's group size.", _IGNORED, added="0.16.0"),
    Field("monteclora_config", _MAPPING, None, "Monte Carlo LoRA.", _IGNORED, added="0.20.0"),
    Field(
        "layer_replication",
        (k.INTEGER_PAIRS, k.NULL),
        None,
        "Stack copies of layer ranges.",
        added="0.10.0",
    ),
    Field(
        "runtime_config",
        _MAPPING,
        None,
        "Settings of this process; never part of a file.",
        _IGNORED,
        written=False,
        added="0.12.0",
    ),
    Field("lora_bias", _FLAG, False, "Bias on LoRA's B.", _IGNORED, added="0.14.0"),
    Field(
        "target_parameters",
        _NAMES,
        None,
        "Parameters (not modules) to adapt.",
        _BREAKS,
        added="0.17.0",
    ),
    Field("use_bdlora", _MAPPING, None, "Block-diagonal LoRA.", _IGNORED, added="0.19.0"),
    Field("arrow_config", _MAPPING, None, "Arrow routing.", _IGNORED, added="0.18.0"),
    Field("kasa_config", _MAPPING, None, "KaSA.", _IGNORED, added="0.21.0"),
    Field("ensure_weight_tying", _FLAG, False, "Tie the adapters of tied layers.", added="0.18.0"),
    Field("target_r", _COUNT, 8, "Average rank of a matrix at the end.", least=1),
    Field("init_r", _COUNT, 12, "Rank of every matrix at the start.", least=1),
    Field("tinit", _COUNT, 0, "Optimizer steps before the first allocation.", least=0),
    Field(
        "tfinal",
        _COUNT,
        0,
        "Length of the final phase in optimizer steps: a duration, not an end step.",
        least=0,
    ),
    Field("deltaT", _COUNT, 1, "Optimizer steps between two allocations.", least=1),
    Field(
        "beta1", _REAL, 0.85, "Weight of the past in the smoothed sensitivity.", above=0, below=1
    ),
    Field("beta2", _REAL, 0.85, "Weight of the past in the uncertainty.", above=0, below=1),
    Field(
        "orth_reg_weight", _REAL, 0.5, "Weight of the orthogonality penalty in the loss.", least=0
    ),
    Field(
        "total_step",
        (k.INTEGER, k.NULL),
        None,
        "Optimizer steps of the whole run; needed for training.",
        above=0,
    ),
)

FIELDS = {field.name: field for field in _TABLE}
"""`{name: Field}` of every field of PEFT, in PEFT's order."""

OWN_FIELDS = {
    "importance_criterion": Field(
        "importance_criterion",
        (k.STRING, k.FUNCTION),
        SENSITIVITY,
        "How triplets are scored; PEFT has no such key.",
        choices=CRITERIA,
        written=False,
    )
}
"""Fields of the runtime adalora-core alone; no file of PEFT's holds them."""

ALL_FIELDS = FIELDS | OWN_FIELDS

_TREATMENTS = {
    Treatment.HONOURED: "reads it",
    Treatment.IGNORED: "accepts it without a warning, and AdaLoRA does not read it",
    Treatment.REJECTED: "refuses an AdaLoRA configuration that sets it",
    Treatment.BREAKS: "accepts it for AdaLoRA, then fails or trains something else",
}


def use_of(field: Field) -> str:
    """Return a sentence on what PEFT does with a field, and one on its age."""
    if field.name in OWN_FIELDS:
        return "The runtime adalora-core alone reads it."
    added = f" The key was added in PEFT {field.added}." if field.added else ""
    return f"PEFT {PEFT_VERSION} {_TREATMENTS[field.treatment]}.{added}"


_NEWER = {
    name: field.default
    for name, field in FIELDS.items()
    if field.added is not None and int(field.added.split(".")[1]) > 18  # noqa: PLR2004 - see below
}
"""Fields that PEFT 0.18, which trainers ship, warns of: written where they are not the default."""


def as_written(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a file holds: no field of a later PEFT than 0.18 that has its default."""
    return {
        name: value for name, value in values.items() if name not in _NEWER or value != _NEWER[name]
    }


ADALORA_FIELDS = frozenset({
    "target_r", "init_r", "tinit", "tfinal", "deltaT", "beta1", "beta2", "orth_reg_weight",
    "total_step",
})  # fmt: skip
"""Names that no other method of PEFT has."""

DISTINCTIVE_FIELDS = ADALORA_FIELDS - {"beta1", "beta2", "total_step"}
"""AdaLoRA's names that hardly any other program uses; optimizers, for one, have betas too."""

_OF_LORA: dict[str, dict[str, Any]] = {
    "peft_type": {"default": LORA, "choices": (LORA,), "summary": "The method: LORA."},
    "r": {"least": 1, "summary": "Rank of every matrix."},
    "lora_alpha": {
        "kinds": _REAL,
        "above": None,
        "summary": "Numerator of the scale lora_alpha / r.",
    },
    "rank_pattern": {"kinds": (k.OBJECT,), "default": {}, "summary": "r by module."},
    "alpha_pattern": {"kinds": (k.OBJECT,), "summary": "lora_alpha by module."},
    "init_lora_weights": {
        "summary": "true: the adapter has no effect at the start; or the name of a start.",
    },
}
"""What `LoraConfig` has otherwise in a field that both classes have."""

LORA_FIELDS = {
    name: dataclasses.replace(field, treatment=Treatment.HONOURED, **_OF_LORA.get(name, {}))
    for name, field in FIELDS.items()
    if name not in ADALORA_FIELDS
}
"""`{name: Field}` of every field of PEFT's `LoraConfig`."""


def fields_of(runtime: Runtime, method: Method = PEFT_TYPE) -> dict[str, Field]:
    """Return the fields that the library reads in a configuration of the method."""
    if method == LORA:
        return LORA_FIELDS
    return FIELDS if runtime == "peft" else ALL_FIELDS


def is_method(word: Any, methods: tuple[Method, ...] = (PEFT_TYPE, LORA)) -> bool:
    """Return whether a value of `peft_type` is one of the methods, in any spelling of case."""
    return isinstance(word, str) and word.strip().upper() in methods


def says_lora(values: Mapping[Any, Any]) -> bool:
    """Return whether `peft_type` is LORA, in any spelling of case, beside no field of AdaLoRA."""
    return is_method(values.get("peft_type"), (LORA,)) and DISTINCTIVE_FIELDS.isdisjoint(values)
