"""Family ADA3xx, second part: the rank pattern of a trained adapter."""

from __future__ import annotations

import re
from typing import Any

from adalora_core.config.fields.block import Block
from adalora_core.config.fields.value_kinds import name_of_value
from adalora_core.config.findings import Remedy, Rename, Severity
from adalora_core.config.rules.base import SOUND, Findings, Rule
from adalora_core.floor.module_selection import ModuleSelection, is_all_linear, saved_module_names
from adalora_core.floor.rank_pattern import SINGULAR_VALUES_SUFFIX

SAVED = SOUND | {
    "init_r": 4,
    "target_r": 2,
    "inference_mode": True,
    "rank_pattern": {
        "layers.0.q_proj.lora_E": [True, True, True, False],
        "layers.0.v_proj.lora_E": [True, False, False, False],
    },
}


class _SavedRule(Rule):
    """A fault of a saved adapter."""

    good = SAVED


class RankPatternShape(_SavedRule):
    code = "ADA304"
    errors = (
        "Unexpected type of rank_idx",
        "Unexcepted type of rank_idx",
        "The shape of the mask ... does not match the shape of the indexed tensor",
    )
    summary = "rank_pattern is not an object of lists of init_r booleans"
    why = """AdaLoRA's pattern marks for each matrix which of its init_r triplets are kept. LoRA's
    form, one rank per module, is a TypeError ("Unexpected type of rank_idx") when PEFT loads it. A
    list of another length does not fit the tensors; a shorter one is written when a loaded, already
    pruned adapter is trained again. PEFT overwrites the pattern of a configuration for training, so
    there any form is a warning. The length is one too of an empty list, and under the runtime
    adalora-core, which reads the rows of the tensors."""
    bad = SAVED | {"rank_pattern": {"q_proj": 16}}
    hint = "set rank_pattern to null in a configuration for training; training fills it in"
    inputs = ("rank_pattern",)

    def check(self, block: Block) -> Findings:
        pattern = block["rank_pattern"]
        length = None if "init_r" in block.invalid else block["init_r"]
        hint = _hint_on_length(block, pattern or {})
        for key, kept in (pattern or {}).items():
            if not _is_kept(kept):
                got = name_of_value(kept)
                message = f"`rank_pattern` should hold lists of true and false, got {got}"
                if isinstance(kept, int) and not isinstance(kept, bool):
                    message += ": this is LoRA's form, one rank per module"
                is_replaced = not block.is_saved and block.runtime == "peft"
                severity: Severity | None = "warning" if is_replaced else None
                yield self.found(block.at("rank_pattern", key), message, severity=severity)
            elif length is not None and len(kept) != length:
                yield self.found(
                    block.at("rank_pattern", key),
                    f"`rank_pattern` should hold init_r = {length} entries, got {len(kept)}",
                    severity=_severity_of_length(block, kept, length),
                    hint=hint,
                    related=block.notes("init_r"),
                )


def _hint_on_length(block: Block, pattern: dict[Any, Any]) -> str | None:
    """Return the hint that keeps the ranks of a saved adapter, if all lists have one length."""
    is_known = block.is_saved and _is_sound(block)
    lengths = {len(kept) for kept in pattern.values()} if is_known else set()
    length = lengths.pop() if len(lengths) == 1 else 0
    return f"set init_r to {length}, the length of its lists" if length else None


def _severity_of_length(block: Block, kept: list[bool], length: int) -> Severity:
    if block.is_saved and any(kept[length:]):
        return "error"  # a row beyond init_r is in no tensor
    return _severity(block) if kept else "warning"  # an empty list selects no row


def _severity(block: Block) -> Severity:
    """Return the severity of what only PEFT refuses, when it loads a saved adapter."""
    return "error" if block.is_saved and block.runtime == "peft" else "warning"


def _is_sound(block: Block) -> bool:
    return all(map(_is_kept, (block["rank_pattern"] or {}).values()))


def _is_kept(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(entry, bool) for entry in value)


class RankPatternSum(_SavedRule):
    code = "ADA305"
    errors = ("size mismatch for ...lora_A",)
    severity = "warning"
    summary = "rank_pattern does not keep target_r triplets per matrix on average"
    why = """After the last allocation the matrices together keep target_r triplets per matrix.
    Another total means a checkpoint from before the end, scores that were equal or not finite, or a
    run that was resumed without the allocator's state. PEFT makes init_r triplets, or those of the
    pattern, and refuses tensors of another size, also those of a run with another init_r."""
    bad = SAVED | {
        "rank_pattern": {
            "layers.0.q_proj.lora_E": [True, True, True, True],
            "layers.0.v_proj.lora_E": [True, False, False, False],
        }
    }
    hint = "save the adapter after the last step of the schedule"
    inputs = ("rank_pattern", "target_r")

    def check(self, block: Block) -> Findings:
        pattern = block["rank_pattern"]
        if not pattern or not _is_sound(block):
            return
        kept = sum(sum(entries) for entries in pattern.values())
        expected = block["target_r"] * len(pattern)
        if kept not in (0, expected):
            message = (
                f"`rank_pattern` keeps {kept} triplets, but the budget is target_r "
                f"{block['target_r']} x {len(pattern)} matrices = {expected}"
            )
            yield self.found(block.at("rank_pattern"), message, "key")


class NeverAllocated(_SavedRule):
    code = "ADA308"
    errors = ("size mismatch for ...lora_A",)
    severity = "warning"
    summary = "a saved adapter has no rank pattern: its allocator never ran"
    why = """PEFT fills rank_pattern at the first allocation. Null in a saved adapter has one of two
    causes. The training loop never called update_and_allocate(step), so every matrix has the fixed
    rank init_r; or the checkpoint was taken before tinit."""
    bad = SAVED | {"rank_pattern": None}
    hint = """call model.base_model.update_and_allocate(step) after each optimizer.step(); if this
    was a LoRA adapter, set peft_type back to LORA; if it is a configuration for training, set
    inference_mode to false"""
    inputs = ("inference_mode", "rank_pattern")

    def check(self, block: Block) -> Findings:
        if block.layout == "python":
            return  # a call with inference_mode need not follow a finished run
        if block.is_saved and block["rank_pattern"] is None and block["total_step"] is not None:
            yield self.found(
                block.at_first("rank_pattern", "inference_mode"),
                "`rank_pattern` is not set in a saved adapter: no allocation ran, and every matrix "
                "keeps init_r triplets",
                "key",
            )


class RankPatternKey(_SavedRule):
    code = "ADA309"
    errors = ("object has no attribute 'lora_E'",)
    summary = "a key of rank_pattern does not name singular values"
    why = """PEFT writes keys of the form <module path>.lora_E and removes the last part when it
    loads them. A key without that part gives the path of a wrong module, which is an
    AttributeError. Another last part is a warning under PEFT, which does not read it, and an error
    under adalora-core. A training ignores the pattern, so there the finding is a warning."""
    bad = SAVED | {
        "rank_pattern": {
            "layers.0.q_proj": [True, True, True, False],
            "layers.0.v_proj.lora_E": [True, False, False, False],
        }
    }
    hint = f"write <module path>{SINGULAR_VALUES_SUFFIX}"
    unsafe_fix = f"{SINGULAR_VALUES_SUFFIX} is added to a key without the name of a tensor"
    inputs = ("rank_pattern",)

    def check(self, block: Block) -> Findings:
        for key, kept in (block["rank_pattern"] or {}).items():
            if isinstance(kept, list) and not _names_singular_values(key):
                path = block.at("rank_pattern", key)
                remedy = None
                if isinstance(key, str) and "lora_" not in key:
                    change = Rename(path, key + SINGULAR_VALUES_SUFFIX)
                    remedy = Remedy("Name the singular values", change, is_safe=False)
                is_read = block.runtime == "peft" and re.search(r"\.lora_[AB]$", str(key))
                yield self.found(
                    path,
                    f"a key of `rank_pattern` should end in {SINGULAR_VALUES_SUFFIX}, got {key!r}",
                    "key",
                    severity=None if block.is_saved and not is_read else "warning",
                    remedy=remedy,
                )


def _names_singular_values(key: Any) -> bool:
    # In memory PEFT's keys have the adapter's name behind the suffix.
    return isinstance(key, str) and (
        key.endswith(SINGULAR_VALUES_SUFFIX) or f"{SINGULAR_VALUES_SUFFIX}." in key
    )


class RankPatternAsInput(_SavedRule):
    code = "ADA310"
    severity = "info"
    summary = "rank_pattern is set in a configuration for training"
    why = """rank_pattern is an output of training: PEFT ignores it at the start, and the first
    allocation overwrites it. Unlike LoRA, AdaLoRA does not read ranks per module."""
    bad = SAVED | {"inference_mode": False}
    hint = "remove rank_pattern, or set inference_mode to true if this is a trained adapter"
    inputs = ("rank_pattern", "inference_mode")

    def check(self, block: Block) -> Findings:
        if block["rank_pattern"] and not block.is_saved and _is_sound(block):
            message = "`rank_pattern` is an output of training and is not read as an input"
            yield self.found(block.at("rank_pattern"), message, "key")


class NothingKept(_SavedRule):
    code = "ADA311"
    severity = "warning"
    summary = "rank_pattern keeps no triplet at all: the adapter does nothing"
    why = """PEFT masks every triplet in two cases: all scores are equal, since no training signal
    reached the adapter, or the allocator was resumed without its state."""
    bad = SAVED | {"rank_pattern": {"layers.0.q_proj.lora_E": [False, False, False, False]}}
    hint = "train again: with this adapter the model gives the outputs of the base model"
    inputs = ("rank_pattern",)

    def check(self, block: Block) -> Findings:
        pattern = block["rank_pattern"]
        if pattern and _is_sound(block) and not any(any(kept) for kept in pattern.values()):
            yield self.found(block.at("rank_pattern"), "`rank_pattern` keeps no triplet", "key")


class RankPatternModules(_SavedRule):
    code = "ADA312"
    errors = (
        "object has no attribute 'lora_E'",
        "resize_modules_by_rank_pattern ... AttributeError: ... has no attribute",
        "rank_pattern[key] ... KeyError: '...lora_E'",
    )
    summary = "rank_pattern and target_modules of a saved adapter disagree"
    why = """PEFT looks up the module of each key, and asks it for its adapter: an AttributeError if
    the model has no such module or target_modules does not select it. Prefixes that come from a
    wrapped model, such as base_model.model., are not part of the path; adalora-core refuses them
    too. A module that is not selected is a warning under adalora-core, which adapts the modules
    that the file has tensors of."""
    bad = SAVED | {"target_modules": ["q_proj"]}
    hint = "restore the target_modules and the rank_pattern that the training wrote"
    inputs = (
        "rank_pattern", "target_modules", "exclude_modules", "modules_to_save", "task_type",
        "layers_to_transform", "layers_pattern", "inference_mode",
    )  # fmt: skip

    def check(self, block: Block) -> Findings:
        pattern = block["rank_pattern"]
        if not pattern or not block.is_saved:
            return
        paths = {key: key.rpartition(SINGULAR_VALUES_SUFFIX)[0] for key in pattern if key}
        wrapped = [key for key, path in paths.items() if path.startswith(_WRAPPERS)]
        if wrapped:
            message = f"`rank_pattern` names modules of a wrapped model: {wrapped[0]!r}"
            hint = f"remove the prefix from the keys ({len(wrapped)} in all)"
            yield self.found(block.at("rank_pattern", wrapped[0]), message, "key", hint=hint)
            return
        selection = _selection(block)
        if selection is None:
            return
        ignored = [
            (key, path)
            for key, path in paths.items()
            if path and (not selection.includes(path) or selection.excludes(path))
        ]
        if ignored:
            key, path = ignored[0]
            more = f" and {len(ignored) - 1} more" if len(ignored) > 1 else ""
            yield self.found(
                block.at("rank_pattern", key),
                f"`rank_pattern` names {path!r}{more}, which the configuration does not adapt",
                "key",
                severity=_severity(block),
            )


_WRAPPERS = ("base_model.model.", "_orig_mod.", "module.")
"""Prefixes of paths in a model of PEFT, a compiled one and a distributed one."""

_LONGEST = 256


def _selection(block: Block) -> ModuleSelection | None:
    """Return the modules that a configuration means, None if only the model can tell."""
    targets, exclude = block["target_modules"], block["exclude_modules"]
    layers = block["layers_pattern"]
    if targets is None or is_all_linear(targets):
        return None
    texts = [text for text in (targets, exclude) if isinstance(text, str)]
    texts += [layers] if isinstance(layers, str) else layers or []
    if not all(block.expressions.can_match(text, _LONGEST) for text in texts):
        return None  # other rules report what is wrong with it
    saved = saved_module_names(block["modules_to_save"], block["task_type"])
    return ModuleSelection(targets, exclude, block["layers_to_transform"], layers, saved)
