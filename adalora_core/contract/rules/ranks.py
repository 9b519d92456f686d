"""Family ADA3xx: initial and target rank, and the rank pattern of a trained adapter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adalora_core.contract.rule import SOUND, Finding, Rule
from adalora_core.contract.shapes import name_of_value
from adalora_core.rank_pattern import SINGULAR_VALUES_SUFFIX

if TYPE_CHECKING:
    from collections.abc import Iterator

    from adalora_core.contract.block import Block

STEEPEST_CUT = 8
"""init_r / target_r from which on most of the trained triplets are thrown away; paper: 1.5 to 3."""

RANKS = ("init_r", "target_r")

SAVED = SOUND | {
    "init_r": 4,
    "target_r": 2,
    "inference_mode": True,
    "rank_pattern": {
        "layers.0.q_proj.lora_E": [True, True, True, False],
        "layers.0.v_proj.lora_E": [True, False, False, False],
    },
}


def _named(block: Block, name: str) -> str:
    return f"{name} {block[name]}" + ("" if name in block.values else " (the default)")


class TargetAboveInit(Rule):
    code = "ADA301"
    name = "target-above-init"
    severity = "error"
    summary = "target_r is above init_r"
    why = (
        "AdaLoRA only takes triplets away. PEFT accepts the configuration and stops in the middle "
        "of the training with `kthvalue(): selected number k out of range`. The defaults count: "
        "init_r is 12 and target_r is 8 where a key is absent."
    )
    bad = SOUND | {"init_r": 4, "target_r": 8}
    hint = "set init_r above target_r, usually 1.5 times"
    inputs = RANKS

    def check(self, block: Block) -> Iterator[Finding]:
        if block["init_r"] < block["target_r"]:
            spoken = "target_r" if "target_r" in block.values else "init_r"
            other = "init_r" if spoken == "target_r" else "target_r"
            yield Finding(
                self,
                block.at(spoken),
                f"{_named(block, 'target_r')} is above {_named(block, 'init_r')}: "
                "there is nothing to prune",
                related=((block.at(other), f"{other} is {block[other]}"),)
                if other in block.values
                else (),
                hint=f"set init_r to {block['target_r'] + block['target_r'] // 2} "
                f"or target_r below {block['init_r']}"
                if block["init_r"] > 1
                else None,
            )


class EqualRanks(Rule):
    code = "ADA302"
    name = "equal-ranks"
    severity = "error"
    summary = "init_r equals target_r"
    why = (
        "Nothing is to be pruned, and PEFT asks for the 0th smallest score: `kthvalue(): selected "
        "number k out of range` at the first allocation, in the middle of the training. The "
        "runtime adalora-core trains it as plain SVD-LoRA. A saved adapter loads, so it is only a "
        "warning there."
    )
    bad = SOUND | {"init_r": 8, "target_r": 8}
    hint = "set init_r above target_r, usually 1.5 times"
    inputs = RANKS

    def check(self, block: Block) -> Iterator[Finding]:
        if block["init_r"] != block["target_r"] or block.runtime != "peft":
            return
        spoken = "init_r" if "init_r" in block.values else "target_r"
        yield Finding(
            self,
            block.at(spoken),
            f"{_named(block, 'init_r')} equals {_named(block, 'target_r')}: "
            "PEFT crashes at the first allocation",
            severity="warning" if block.is_saved else None,
        )


class RIgnored(Rule):
    code = "ADA303"
    name = "r-ignored"
    severity = "warning"
    summary = "r is set, and AdaLoRA does not read it"
    why = "r is LoRA's rank. AdaLoRA starts every matrix at init_r and ends at target_r on average."
    bad = SOUND | {"r": 16}
    hint = "remove r; the starting rank is init_r, the average rank at the end is target_r"
    inputs = ("r",)
    warns_at_construction = True

    def check(self, block: Block) -> Iterator[Finding]:
        if block.is_set("r"):
            yield Finding(
                self,
                block.at("r"),
                "Note that `r` is not used in AdaLora and will be ignored: "
                f"r is {block['r']}, the run starts at {_named(block, 'init_r')}",
                "key",
            )


class RankPatternShape(Rule):
    code = "ADA304"
    name = "rank-pattern-shape"
    severity = "error"
    summary = "rank_pattern is not an object of lists of init_r booleans"
    why = (
        "AdaLoRA's pattern says for each matrix which of its init_r triplets are kept. LoRA's "
        'form, a rank by module, is a TypeError ("Unexpected type of rank_idx") when PEFT loads '
        "it, and a list of another length does not fit the tensors. A shorter list comes from "
        "training on from a loaded, already pruned adapter."
    )
    bad = SAVED | {"rank_pattern": {"q_proj": 16}}
    good = SAVED
    hint = "leave rank_pattern null in a configuration to train with; training writes it"
    inputs = ("rank_pattern",)

    def check(self, block: Block) -> Iterator[Finding]:
        pattern = block["rank_pattern"]
        length = None if "init_r" in block.invalid else block["init_r"]
        for key, kept in (pattern or {}).items():
            if not isinstance(kept, list) or not all(isinstance(entry, bool) for entry in kept):
                came = name_of_value(kept)
                message = f"`rank_pattern` should hold lists of true and false, got {came}"
                if isinstance(kept, int) and not isinstance(kept, bool):
                    message += ": that is LoRA's form, a rank by module"
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
    summary = "rank_pattern keeps another number of triplets than target_r times the matrices"
    why = (
        "After the final phase the kept triplets of all matrices sum to exactly target_r times "
        "their number. Another sum means a checkpoint from before the end, scores that were equal "
        "or not finite, or a run that was resumed without the allocator's state."
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
                f"`rank_pattern` keeps {kept} triplets, the budget is target_r "
                f"{block['target_r']} x {len(pattern)} matrices = {expected}",
                "key",
            )


class RanksDefaulted(Rule):
    code = "ADA306"
    name = "ranks-defaulted"
    severity = "warning"
    summary = "neither init_r nor target_r is set"
    why = (
        "Both then have PEFT's defaults, 12 and 8. They are the two numbers that AdaLoRA is about, "
        "and a configuration copied from LoRA, where the rank is r, lacks them."
    )
    bad = {key: value for key, value in SOUND.items() if key not in RANKS}
    hint = "set init_r (rank at the start) and target_r (average rank at the end)"

    def check(self, block: Block) -> Iterator[Finding]:
        if block.values.keys().isdisjoint(RANKS) and not block.is_saved:
            yield Finding(
                self,
                block.path,
                "init_r and target_r are not set: every matrix starts at rank 12 and the average "
                "at the end is 8",
                "key",
            )


class SteepCut(Rule):
    code = "ADA307"
    name = "steep-cut"
    severity = "warning"
    summary = f"init_r is {STEEPEST_CUT} or more times target_r"
    why = (
        "Most of what the warm-up trained is thrown away, and the scale lora_alpha / init_r stays "
        "that of the large rank. The paper starts at 1.5 times the target."
    )
    bad = SOUND | {"init_r": 64, "target_r": 8, "lora_alpha": 64}
    hint = "start nearer to the target, usually at 1.5 to 3 times target_r"
    inputs = RANKS

    def check(self, block: Block) -> Iterator[Finding]:
        if block["init_r"] >= STEEPEST_CUT * block["target_r"]:
            yield Finding(
                self,
                block.at("init_r") if "init_r" in block.values else block.at("target_r"),
                f"{_named(block, 'init_r')} is {block['init_r'] // block['target_r']} times "
                f"{_named(block, 'target_r')}",
            )


class NeverAllocated(Rule):
    code = "ADA308"
    name = "never-allocated"
    severity = "warning"
    summary = "a saved adapter has no rank pattern: its allocator never ran"
    why = (
        "PEFT fills rank_pattern at the first allocation. Null in a saved adapter means that the "
        "training loop never called update_and_allocate(step), so this is an SVD adapter of fixed "
        "rank init_r, or that the checkpoint was taken before tinit."
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
                "saved for inference without a `rank_pattern`: update_and_allocate never ran "
                "and every matrix keeps init_r triplets",
                "key",
            )


class RankPatternKey(Rule):
    code = "ADA309"
    name = "rank-pattern-key"
    severity = "error"
    summary = "a key of rank_pattern does not name singular values"
    why = (
        "PEFT writes <module path>.lora_E and cuts the last part off when it loads. Of any other "
        "key it makes the path of a wrong module: an AttributeError."
    )
    bad = SAVED | {
        "rank_pattern": {
            "layers.0.q_proj": [True, True, True, False],
            "layers.0.v_proj.lora_E": [True, False, False, False],
        }
    }
    good = SAVED
    hint = f"write <module path>{SINGULAR_VALUES_SUFFIX}"
    inputs = ("rank_pattern",)

    def check(self, block: Block) -> Iterator[Finding]:
        for key, kept in (block["rank_pattern"] or {}).items():
            if isinstance(kept, list) and not _names_singular_values(key):
                yield Finding(
                    self,
                    block.at("rank_pattern", key),
                    f"a key of `rank_pattern` should end in {SINGULAR_VALUES_SUFFIX}, got {key!r}",
                    "key",
                )


def _names_singular_values(key: Any) -> bool:
    # With an adapter's name behind it, as PEFT holds the pattern in memory.
    return isinstance(key, str) and (
        key.endswith(SINGULAR_VALUES_SUFFIX) or f"{SINGULAR_VALUES_SUFFIX}." in key
    )


class RankPatternAsInput(Rule):
    code = "ADA310"
    name = "rank-pattern-as-input"
    severity = "info"
    summary = "rank_pattern is set in a configuration to train with"
    why = (
        "It is an output of training. At the start PEFT ignores it, and the first allocation "
        "overwrites it; ranks by module, as in LoRA, are not something that AdaLoRA takes."
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
                "`rank_pattern` is an output of training and not read as an input",
                "key",
            )


class NothingKept(Rule):
    code = "ADA311"
    name = "nothing-kept"
    severity = "warning"
    summary = "rank_pattern keeps no triplet at all: the adapter does nothing"
    why = (
        "Happens when every score was equal (no training signal reached the adapter) or the "
        "allocator was resumed without its state: PEFT then masks everything."
    )
    bad = SAVED | {"rank_pattern": {"layers.0.q_proj.lora_E": [False, False, False, False]}}
    good = SAVED
    hint = "train again; the base model answers as if the adapter were not there"
    inputs = ("rank_pattern",)

    def check(self, block: Block) -> Iterator[Finding]:
        pattern = block["rank_pattern"]
        if pattern and _is_sound(block) and not any(any(kept) for kept in pattern.values()):
            yield Finding(self, block.at("rank_pattern"), "`rank_pattern` keeps no triplet", "key")


RULES = (
    TargetAboveInit(),
    EqualRanks(),
    RIgnored(),
    RankPatternShape(),
    RankPatternSum(),
    RanksDefaulted(),
    SteepCut(),
    NeverAllocated(),
    RankPatternKey(),
    RankPatternAsInput(),
    NothingKept(),
)
