"""Describe the tools whose files hold settings of AdaLoRA or LoRA: keys, defaults, total_step.

Each entry was read in the source of the release that its name gives.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from adalora_core.config.fields.table import ADALORA_FIELDS

if TYPE_CHECKING:
    from adalora_core.floor.places import Path

Layout = Literal["peft", "prefixed", "section", "flat", "python"]
"""The form of AdaLoRA's settings in a file: PEFT's own mapping, keys with the prefix `adalora_`, a
section beside a key with the value `adalora`, PEFT's names among the tool's own keys, or a call of
the class in Python."""

PREFIX = "adalora_"


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool and the way in which its files hold AdaLoRA's settings.

    Args:
        name: the tool and the release that was read.
        layout: how it writes the settings.
        markers: keys of which one has the value `adalora`.
        beside: keys of which one is beside the marker; empty: no key is needed.
        without: keys that the tool does not have; a file with one of them is another tool's.
        only_with: a further key and the value that it must have.
        under: the key that holds the mapping; None: any.
        section: the key beside the marker that holds the settings; None: the mapping itself does.
        keys: `{the tool's key: PEFT's name}`, besides PEFT's own names.
        defaults: what the tool uses for absent keys, where that is not PEFT's default.
        total_step: whether the tool computes `total_step`, never sets it, or takes it from the
            file alone; unknown where only a fork of the tool has AdaLoRA.
        refuses: whether the tool has no AdaLoRA and ends with an error at such a file.
        unless: a key of the file with which it may know AdaLoRA all the same.
        served_by: the plugin of our examples with which the tool trains what the file asks for.
        listed_in: the key that has to name this module; None: the file alone does not tell.
        allocates: whether the tool ever allocates, and with it what fails there.
        remark: what the tool does otherwise than the settings ask for; None: nothing.
        advice: what to do about it.
        maps: fields whose values the tool turns into PEFT's itself; no rule of PEFT's holds there.
        expands: whether `all-linear` in a list of modules means every linear layer too.
        refused_keys: `{key at the top of the file: what to do}`; the tool stops at these.
        stops_at_unknown: whether the tool stops at a key among AdaLoRA's settings that is no field.
        says: the values of the marker that mean LoRA; empty: the tool is one for AdaLoRA.
        alpha_per_rank: for LoRA, the default of `lora_alpha` as a multiple of the rank.
        splits: whether names of modules are one text with commas, and `all` means every layer.
    """

    name: str
    layout: Layout
    markers: tuple[str, ...]
    total_step: Literal["computed", "never set", "from the file", "unknown"]
    beside: frozenset[str] = frozenset()
    without: frozenset[str] = frozenset()
    only_with: tuple[str, str] | None = None
    under: str | None = None
    section: str | None = None
    keys: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    refuses: bool = False
    unless: str | None = None
    served_by: str | None = None
    listed_in: str | None = None
    allocates: bool = True
    remark: str | None = None
    advice: str | None = None
    maps: frozenset[str] = frozenset()
    expands: bool = False
    refused_keys: Mapping[str, str] = field(default_factory=dict)
    stops_at_unknown: bool = False
    says: frozenset[Any] = frozenset()
    alpha_per_rank: int | None = None
    splits: bool = False

    def reads(self, path: Path, values: Mapping[Any, Any]) -> bool:
        """Return whether a mapping with a marker of the tool, at `path`, is a file of the tool."""
        return (
            (not self.beside or not self.beside.isdisjoint(values))
            and self.without.isdisjoint(values)
            and (self.only_with is None or values.get(self.only_with[0]) == self.only_with[1])
            and (self.under is None or path[-1:] == (self.under,))
            and (self.section is None or isinstance(values.get(self.section), dict))
            and (self.listed_in is None or _lists(values.get(self.listed_in), self.served_by))
        )


def _lists(value: Any, name: str | None) -> bool:
    """Return whether a text, or one of a list, contains a name."""
    entries = value if isinstance(value, list) else [value]
    return any(isinstance(each, str) and str(name) in each for each in entries)


_OF_LORA = ("lora_r", "lora_alpha", "lora_target_modules", "lora_target_linear")
"""Keys of axolotl that the plugin for AdaLoRA refuses."""

WRITTEN = frozenset({"global_world_size"})
"""Keys at the top of a file that a tool wrote itself for a run (ms-swift's args.json)."""

_SWIFT = Tool(
    "ms-swift 4.6",  # swift/pipelines/train/tuner.py, swift/callbacks/adalora.py
    "prefixed",
    ("tuner_type",),
    "computed",
    keys={"lora_rank": "r", "lora_bias": "bias", "lora_target_modules": "target_modules"},
    defaults={"lora_alpha": 32, "lora_dropout": 0.05, "target_modules": "all-linear"},
    maps=frozenset({"task_type"}),
    expands=True,
    refused_keys={name: f"write {PREFIX}{name}" for name in sorted(ADALORA_FIELDS)},
    stops_at_unknown=True,
    remark="allocates on one process only: its callback replaces zero_grad of the model, and "
    "under DDP the trainer calls that of the wrapper, so every matrix keeps init_r",
    advice="list in external_plugins a file adalora_ms_swift.py that installs adalora_core.bridge, "
    "or train on one GPU",
)

TOOLS = (
    replace(
        _SWIFT,
        served_by="adalora_ms_swift",
        listed_in="external_plugins",
        remark=None,
        advice=None,
    ),
    _SWIFT,
    Tool(
        "ms-swift 4.6",  # swift/pipelines/base.py
        "prefixed",
        ("train_type", "sft_type"),
        "unknown",
        refuses=True,
        remark="calls this key tuner_type, and stops at a key that it does not know (ValueError: "
        "remaining_argv)",
        advice="rename the key to tuner_type; ms-swift 3 reads train_type",
    ),
    Tool(
        "optimum-habana 1.21",  # examples/language-modeling/run_lora_clm.py
        "prefixed",
        ("peft_type",),
        "never set",
        beside=frozenset(
            PREFIX + name
            for name in ("init_r", "target_r", "tinit", "tfinal", "delta_t", "orth_reg_weight")
        ),
        without=frozenset(PREFIX + name for name in ("total_step", "deltaT", "beta1", "beta2")),
        keys={
            "adalora_delta_t": "deltaT",
            "lora_rank": "r",
            "lora_target_modules": "target_modules",
        },
        defaults={
            "target_r": 4,
            "tinit": 50,
            "tfinal": 100,
            "deltaT": 10,
            "lora_alpha": 16,
            "lora_dropout": 0.05,
        },
        remark="allocates after each micro-batch and before the step of the optimizer",
        advice="use gradient_accumulation_steps 1, or a trainer that allocates after the step",
    ),
    Tool(
        "EasyEdit",  # easyeditor/models/lora/lora_main.py, July 2026
        "flat",
        ("lora_type",),
        "never set",
        only_with=("alg_name", "LoRA"),
        keys={"rank": "r", "layers": "layers_to_transform"},
        allocates=False,
        remark="never calls update_and_allocate, so every matrix keeps init_r, which is 12",
        advice='use lora_type "lora", whose rank is the rank that trains',
    ),
    Tool(
        "Ludwig 0.17",  # ludwig/schema/llms/peft.py
        "flat",
        ("type",),
        "from the file",
        under="adapter",
        keys={
            "alpha": "lora_alpha",
            "dropout": "lora_dropout",
            "delta_t": "deltaT",
            "bias_type": "bias",
        },
        defaults={"lora_alpha": 16, "lora_dropout": 0.05, "total_step": 10000},
        allocates=False,
        remark="never calls update_and_allocate, so every matrix keeps init_r, and hands no "
        "target_modules to AdaLoRA",
        advice="use the adapter lora, or train the model outside of the tool",
    ),
    Tool(
        "LLaMA-Factory 0.9",  # src/llamafactory/hparams/finetuning_args.py
        "prefixed",
        ("finetuning_type",),
        "unknown",
        beside=frozenset({"stage", "template", "dataset_dir", "cutoff_len"}),
        refuses=True,
        remark="has no AdaLoRA: it refuses every finetuning_type but lora, oft, freeze and full",
        advice="use finetuning_type lora",
    ),
    Tool(
        "LLaMA-Factory 0.9 v1",  # src/llamafactory/v1/core/model_engine.py
        "flat",
        ("name",),
        "unknown",
        under="peft_config",
        refuses=True,
        remark="has no AdaLoRA: it refuses every name but lora and freeze",
        advice="use the name lora",
    ),
    Tool(
        "axolotl 0.19",  # src/axolotl/integrations/base.py
        "section",
        ("adapter",),
        "computed",
        beside=frozenset({"base_model", "datasets"}),
        section="adalora",
        served_by="adalora_axolotl.AdaLoraPlugin",
        listed_in="plugins",
        refused_keys={
            "rl": "use the adapter lora: the trainer of rl makes the adapter itself",
            **dict.fromkeys(_OF_LORA, "write the field of PEFT into the mapping adalora"),
        },
        stops_at_unknown=True,
    ),
    Tool(
        "axolotl 0.19",  # examples/adalora_axolotl.py
        "flat",
        ("adapter",),
        "computed",
        beside=frozenset({"base_model", "datasets"}),
        served_by="adalora_axolotl.AdaLoraPlugin",
        listed_in="plugins",
        refuses=True,
        remark="stops: the plugin expects PEFT's fields in the mapping `adalora`, which is missing",
        advice="write init_r, target_r, target_modules and the like into the mapping adalora",
    ),
    Tool(
        "axolotl 0.19",  # src/axolotl/utils/schemas/peft.py
        "flat",
        ("adapter",),
        "unknown",
        beside=frozenset({"base_model", "datasets"}),
        refuses=True,
        unless="plugins",
        remark="has no AdaLoRA: it refuses every adapter but lora, qlora, llama-adapter and those "
        "of plugins",
        advice="list adalora_axolotl.AdaLoraPlugin in plugins and write PEFT's fields into the "
        "mapping `adalora`, or use the adapter lora",
    ),
)

BY_MARKER = {
    marker: tuple(tool for tool in TOOLS if marker in tool.markers)
    for marker in dict.fromkeys(marker for tool in TOOLS for marker in tool.markers)
}
"""The tools that know a file by a key with the value `adalora`."""


def _for_lora(name: str, markers: str, says: Any, keys: str, **more: Any) -> Tool:
    """Return a tool that says LoRA; of `keys` each is PEFT's name, or `own:PEFT's`."""
    pairs = (key.partition(":") for key in f"lora_alpha lora_dropout {keys}".split())
    named = {own: peft or own for own, _, peft in pairs}
    return Tool(
        name, "flat", tuple(markers.split()), "never set", keys=named, says=frozenset(says), **more
    )


_BASE = "base_model_name_or_path"

LORA_TOOLS = (
    _for_lora(
        "axolotl 0.19",  # src/axolotl/utils/schemas/peft.py, src/axolotl/loaders/adapter.py
        "adapter",
        ("lora", "qlora"),
        f"base_model:{_BASE} lora_r:r lora_target_modules:target_modules "
        "lora_target_linear:target_modules lora_target_parameters:target_parameters "
        "lora_modules_to_save:modules_to_save lora_fan_in_fan_out:fan_in_fan_out "
        "peft_use_rslora:use_rslora peft_use_dora:use_dora "
        "peft_layers_to_transform:layers_to_transform peft_layers_pattern:layers_pattern "
        "peft_layer_replication:layer_replication peft_init_lora_weights:init_lora_weights "
        "peft_trainable_token_indices:trainable_token_indices",
        beside=frozenset({"base_model", "datasets", "lora_r"}),
        defaults={"lora_alpha": None},
    ),
    _for_lora(
        "LLaMA-Factory 0.9",  # src/llamafactory/hparams/finetuning_args.py
        "finetuning_type",
        ("lora",),
        f"use_rslora use_dora model_name_or_path:{_BASE} lora_rank:r lora_target:target_modules "
        "additional_target:modules_to_save",
        defaults={"target_modules": "all-linear"},
        alpha_per_rank=2,
        splits=True,
    ),
    _for_lora(
        "ms-swift 4.6",  # swift/arguments/tuner_args.py; release 3 calls the key train_type
        "tuner_type train_type sft_type",
        ("lora",),
        f"use_rslora use_dora model:{_BASE} lora_rank:r lora_bias:bias target_modules "
        "target_regex:target_modules target_parameters modules_to_save "
        "init_weights:init_lora_weights",
        defaults={"lora_alpha": 32, "lora_dropout": 0.05, "target_modules": "all-linear"},
    ),
    _for_lora(
        "TRL 1.16",  # trl/trainer/model_config.py
        "use_peft",
        (True,),
        f"use_rslora use_dora model_name_or_path:{_BASE} lora_r:r lora_task_type:task_type "
        "lora_target_modules:target_modules lora_target_parameters:target_parameters "
        "lora_modules_to_save:modules_to_save",
        defaults={"r": 16, "lora_alpha": 32, "lora_dropout": 0.05, "task_type": "CAUSAL_LM"},
    ),
)
"""The tools that say LoRA. Only the keys that are listed here hold fields of PEFT."""
