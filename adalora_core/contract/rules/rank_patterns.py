"""Family ADA3xx, second part: the rank pattern of a trained adapter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adalora_core.contract.fields.value_kinds import name_of_value
from adalora_core.contract.rules.base import SOUND, Finding, Rule
from adalora_core.contract.text.changes import Remedy, Rename
from adalora_core.rank_pattern import SINGULAR_VALUES_SUFFIX

if TYPE_CHECKING:
    from collections.abc import Iterator

    from adalora_core.contract.fields.block import Block

SAVED = SOUND | {
    "init_r": 4,
    "target_r": 2,
    "inference_mode": True,
    "rank_pattern": {
        "layers.0.q_proj.lora_E": [True, True, True, False],
        "layers.0.v_proj.lora_E": [True, False, False, False],
    },
}


class RankPatternShape(Rule):
    code = "ADA304"
    name = "rank-pattern-shape"
    severity = "error"
    summary = "rank_pattern is not an object of lists of init_r booleans"
    why = (
        "AdaLoRA's pattern marks for each matrix which of its init_r triplets are kept. LoRA's "
        'form, one rank per module, is a TypeError ("Unexpected type of rank_idx") when PEFT loads '
        "it. A list of another length does not fit the tensors; a shorter one is written when a "
        "loaded, already pruned adapter is trained again."
    )
    bad = SAVED | {"rank_pattern": {"q_proj": 16}}
    good = SAVED
    hint = "set rank_pattern to null in a configuration for training; training fills it in"
    inputs = ("rank_pattern",)

    def check(self, block: Block) -> Iterator[Finding]:
        pattern = block["rank_pattern"]
        length = None if "init_r" in block.invalid else block["init_r"]
        for key, kept in (pattern or {}).items():
            if not isinstance(kept, list) or not all(isinstance(entry, bool) for entry in kept):
                got = name_of_value(kept)
                message = f"`rank_pattern` should hold lists of true and false, got {got}"
                if isinstance(kept, int) and not isinstance(kept, bool):
                    message += ": this is LoRA's form, one rank per module"
                yield Finding(self, block.at("rank_pattern", key), message)
            elif length is not None and len(kept) != length:
                yield Finding(
                    self,
                    block.at("rank_pattern", key),
                    f"`rank_pattern` should hold init_r = {length} entries, got {len(kept)}",
                    related=((block.at("init_r"), f"init_r is {length}"),)
                    if "init_r" in block.values
                    else (),
                )


def _is_sound(block: Block) -> bool:
    return all(
        isinstance(kept, list) and all(isinstance(entry, bool) for entry in kept)
        for kept in (block["rank_pattern"] or {}).values()
    )


class RankPatternSum(Rule):
    code = "ADA305"
    name = "rank-pattern-sum"
    severity = "warning"
    summary = "rank_pattern does not keep target_r triplets per matrix on average"
    why = (
        "After the last allocation the matrices together keep target_r triplets per matrix. "
        "Another total means a checkpoint from before the end, scores that were equal or not "
        "finite, or a run that was resumed without the allocator's state."
    )
    bad = SAVED | {
        "rank_pattern": {
            "layers.0.q_proj.lora_E": [True, True, True, True],
            "layers.0.v_proj.lora_E": [True, False, False, False],
        }
    }
    good = SAVED
    hint = "save the adapter after the last step of the schedule"
    inputs = ("rank_pattern", "target_r")
    only_if_set = ("rank_pattern",)

    def check(self, block: Block) -> Iterator[Finding]:
        pattern = block["rank_pattern"]
        if not pattern or not _is_sound(block):
            return
        kept = sum(sum(entries) for entries in pattern.values())
        expected = block["target_r"] * len(pattern)
        if kept not in (0, expected):
            yield Finding(
                self,
                block.at("rank_pattern"),
                f"`rank_pattern` keeps {kept} triplets, but the budget is target_r "
                f"{block['target_r']} x {len(pattern)} matrices = {expected}",
                "key",
            )


class NeverAllocated(Rule):
    code = "ADA308"
    name = "never-allocated"
    severity = "warning"
    summary = "a saved adapter has no rank pattern: its allocator never ran"
    why = (
        "PEFT fills rank_pattern at the first allocation. Null in a saved adapter has one of two "
        "causes. The training loop never called update_and_allocate(step), so every matrix has the "
        "fixed rank init_r; or the checkpoint was taken before tinit."
    )
    bad = SAVED | {"rank_pattern": None}
    good = SAVED
    hint = "call model.base_model.update_and_allocate(step) after each optimizer.step()"
    inputs = ("inference_mode", "rank_pattern")
    only_if_set = ("inference_mode",)

    def check(self, block: Block) -> Iterator[Finding]:
        if block.is_saved and block["rank_pattern"] is None and block["total_step"] is not None:
            yield Finding(
                self,
                block.at("rank_pattern")
                if "rank_pattern" in block.values
                else block.at("inference_mode"),
                "`rank_pattern` is not set in a saved adapter: no allocation ran, and every matrix "
                "keeps init_r triplets",
                "key",
            )


class RankPatternKey(Rule):
    code = "ADA309"
    name = "rank-pattern-key"
    severity = "error"
    summary = "a key of rank_pattern does not name singular values"
    why = (
        "PEFT writes keys of the form <module path>.lora_E and removes the last part when it loads "
        "them. Any other key gives the path of a wrong module, which is an AttributeError."
    )
    bad = SAVED | {
        "rank_pattern": {
            "layers.0.q_proj": [True, True, True, False],
            "layers.0.v_proj.lora_E": [True, False, False, False],
        }
    }
    good = SAVED
    hint = f"write <module path>{SINGULAR_VALUES_SUFFIX}"
    unsafe_fix = f"{SINGULAR_VALUES_SUFFIX} is added to a key without the name of a tensor"
    inputs = ("rank_pattern",)

    def check(self, block: Block) -> Iterator[Finding]:
        for key, kept in (block["rank_pattern"] or {}).items():
            if isinstance(kept, list) and not _names_singular_values(key):
                path = block.at("rank_pattern", key)
                remedy = None
                if isinstance(key, str) and "lora_" not in key:
                    change = Rename(path, key + SINGULAR_VALUES_SUFFIX)
                    remedy = Remedy("Name the singular values", (change,), is_safe=False)
                yield Finding(
                    self,
                    path,
                    f"a key of `rank_pattern` should end in {SINGULAR_VALUES_SUFFIX}, got {key!r}",
                    "key",
                    remedy=remedy,
                )


def _names_singular_values(key: Any) -> bool:
    # In memory PEFT's keys have the adapter's name behind the suffix.
    return isinstance(key, str) and (
        key.endswith(SINGULAR_VALUES_SUFFIX) or f"{SINGULAR_VALUES_SUFFIX}." in key
    )


class RankPatternAsInput(Rule):
    code = "ADA310"
    name = "rank-pattern-as-input"
    severity = "info"
    summary = "rank_pattern is set in a configuration for training"
    why = (
        "rank_pattern is an output of training: PEFT ignores it at the start, and the first "
        "allocation overwrites it. Unlike LoRA, AdaLoRA does not read ranks per module."
    )
    bad = SAVED | {"inference_mode": False}
    good = SAVED
    hint = "remove rank_pattern, or set inference_mode to true if this is a trained adapter"
    inputs = ("rank_pattern", "inference_mode")
    only_if_set = ("rank_pattern",)

    def check(self, block: Block) -> Iterator[Finding]:
        if block["rank_pattern"] and not block.is_saved and _is_sound(block):
            yield Finding(
                self,
                block.at("rank_pattern"),
                "`rank_pattern` is an output of training and is not read as an input",
                "key",
            )


class NothingKept(Rule):
    code = "ADA311"
    name = "nothing-kept"
    severity = "warning"
    summary = "rank_pattern keeps no triplet at all: the adapter does nothing"
    why = (
        "PEFT masks every triplet in two cases: all scores are equal, since no training signal "
        "reached the adapter, or the allocator was resumed without its state."
    )
    bad = SAVED | {"rank_pattern": {"layers.0.q_proj.lora_E": [False, False, False, False]}}
    good = SAVED
    hint = "train again: with this adapter the model gives the outputs of the base model"
    inputs = ("rank_pattern",)

    def check(self, block: Block) -> Iterator[Finding]:
        pattern = block["rank_pattern"]
        if pattern and _is_sound(block) and not any(any(kept) for kept in pattern.values()):
            yield Finding(self, block.at("rank_pattern"), "`rank_pattern` keeps no triplet", "key")


RULES = (
    RankPatternShape(),
    RankPatternSum(),
    NeverAllocated(),
    RankPatternKey(),
    RankPatternAsInput(),
    NothingKept(),
)
