"""Family ADA3xx, first part: initial and target rank."""

from __future__ import annotations

from adalora_core.config.fields.block import Block
from adalora_core.config.fields.value_kinds import name_of_value
from adalora_core.config.findings import Put, Remedy, Rename, Severity
from adalora_core.config.rules.base import SOUND, SOUND_LORA, Findings, LoraRule, Rule
from adalora_core.config.rules.keys import suggest_key

STEEP_RATIO = 8
"""The ratio init_r / target_r from which most trained triplets are dropped; paper: 1.5 to 3."""

RANKS = ("init_r", "target_r")


def _named(block: Block, name: str) -> str:
    return f"{name} {block[name]}" + ("" if name in block.values else " (the default)")


class TargetAboveInit(Rule):
    code = "ADA301"
    errors = ("kthvalue(): selected number k out of range",)
    summary = "target_r is above init_r"
    why = """AdaLoRA only removes triplets. PEFT accepts the configuration and stops in the middle
    of the training with `kthvalue(): selected number k out of range`. Defaults count too: init_r is
    12 and target_r is 8 where the key is absent. A saved adapter still loads, and a run without any
    allocation ends, so there the finding is only a warning."""
    bad = SOUND | {"init_r": 4, "target_r": 8}
    hint = "set init_r above target_r, usually to 1.5 times target_r"
    unsafe_fix = "where both are set, init_r becomes 1.5 times target_r"
    fails_at_allocation = True
    inputs = RANKS

    def check(self, block: Block) -> Findings:
        if block["init_r"] < block["target_r"]:
            yield self.found(
                block.at_first("target_r", "init_r"),
                f"{_named(block, 'target_r')} is above {_named(block, 'init_r')}: "
                "there is nothing to prune",
                related=block.notes("init_r" if "target_r" in block.values else "target_r"),
                severity=_severity(block),
                hint=f"set init_r to {_usual_start(block)}, or target_r below {block['init_r']}"
                if block["init_r"] > 1
                else None,
                remedy=_start_above_target(block),
            )


def _severity(block: Block) -> Severity | None:
    """Return "warning" where PEFT never reaches the selection that fails."""
    if block.is_saved:
        return "warning"
    return None if block.runtime != "peft" or block.allocates else "warning"


def _usual_start(block: Block) -> int:
    target: int = block["target_r"]
    return target + max(1, target // 2)


def _start_above_target(block: Block) -> Remedy | None:
    if block.is_saved or not block.values.keys() >= set(RANKS):
        return None  # the absent rank is PEFT's default, which nobody chose
    start = _usual_start(block)
    return Remedy(f"Set init_r to {start}", Put(block.at("init_r"), start), is_safe=False)


class EqualRanks(Rule):
    code = "ADA302"
    errors = ("kthvalue(): selected number k out of range",)
    summary = "init_r equals target_r"
    why = """There is nothing to prune, and PEFT asks for the 0th smallest score: `kthvalue():
    selected number k out of range` at the first allocation, in the middle of the training. The
    runtime adalora-core trains such a configuration as plain SVD-LoRA. A saved adapter still loads,
    and a run without any allocation ends, so there the finding is only a warning."""
    bad = SOUND | {"init_r": 8, "target_r": 8}
    hint = "set init_r above target_r, usually to 1.5 times target_r"
    unsafe_fix = """where both are set and the adapter is not trained yet, init_r becomes 1.5 times
    target_r"""
    fails_at_allocation = True
    inputs = RANKS

    def check(self, block: Block) -> Findings:
        if block["init_r"] != block["target_r"] or block.runtime != "peft":
            return
        yield self.found(
            block.at_first(*RANKS),
            f"{_named(block, 'init_r')} equals {_named(block, 'target_r')}: "
            "PEFT crashes at the first allocation",
            severity=_severity(block),
            hint=f"set init_r above target_r, usually to {_usual_start(block)}",
            remedy=_start_above_target(block),
        )


class RIgnored(Rule):
    code = "ADA303"
    errors = ("Note that `r` is not used in AdaLora and will be ignored",)
    severity = "warning"
    summary = "r is set, and AdaLoRA does not read it"
    why = """r is LoRA's rank. AdaLoRA starts every matrix at init_r and ends at target_r on
    average. PEFT's default, 8, is reported only in code without an init_r: files of PEFT hold every
    field, and a keyword is written by hand."""
    bad = {key: value for key, value in SOUND.items() if key != "init_r"} | {"r": 16}
    hint = "remove r; the starting rank is init_r, the average rank at the end is target_r"
    unsafe_fix = "r is renamed to init_r if init_r is not set and r is above target_r"
    inputs = ("r",)
    judges_defaults = True
    warns_at_construction = True

    def check(self, block: Block) -> Findings:
        # Code that gives r its default and no init_r means another number.
        is_meant = block.layout == "python" and block.values.get("r") is not None
        if block.is_set("r") or (is_meant and "init_r" not in {*block.values, *block.deferred}):
            remedy = _meant_as_start(block)
            hint = "rename r to init_r, and set target_r, the average rank at the end"
            yield self.found(
                block.at("r"),
                "Note that `r` is not used in AdaLora and will be ignored: "
                f"r is {block['r']}, the run starts at {_named(block, 'init_r')}",
                "key",
                hint=hint if remedy else None,
                remedy=remedy,
            )


def _meant_as_start(block: Block) -> Remedy | None:
    is_free = "init_r" not in block.values and block.layout in {"peft", "python"}
    if any(suggest_key(fault.name) == "init_r" for fault in block.faults("unknown")):
        return None  # that key holds the rank of the start
    known = block.invalid.isdisjoint({"init_r", "target_r"})
    if not is_free or not known or block.is_saved or block["r"] <= block["target_r"]:
        return None
    return Remedy("Rename r to init_r", Rename(block.at("r"), "init_r"), is_safe=False)


class RanksDefaulted(Rule):
    code = "ADA306"
    severity = "warning"
    summary = "neither init_r nor target_r is set"
    why = """Both ranks then have PEFT's defaults, 12 and 8. They are the two main settings of
    AdaLoRA, and a configuration copied from LoRA, where the rank is r, lacks them."""
    bad = {key: value for key, value in SOUND.items() if key not in RANKS}
    hint = "set init_r (rank at the start) and target_r (average rank at the end)"

    def check(self, block: Block) -> Findings:
        prefixed = {f"adalora_{name}" for name in RANKS}  # a tool reads them beside PEFT's keys
        given = {*block.values, *block.deferred}
        if given.isdisjoint({*RANKS, *prefixed}) and not block.is_saved:
            message = (
                "init_r and target_r are not set: every matrix starts at rank 12 and the average "
                "at the end is 8"
            )
            yield self.found(block.path, message, "key")


class SteepCut(Rule):
    code = "ADA307"
    severity = "warning"
    summary = f"init_r is {STEEP_RATIO} or more times target_r"
    why = """Most triplets that the warm-up trained are dropped, and the scale lora_alpha / init_r
    stays that of the large rank. The paper starts at 1.5 times the target."""
    bad = SOUND | {"init_r": 64, "target_r": 8, "lora_alpha": 64}
    hint = "set init_r nearer to target_r, usually to 1.5 to 3 times target_r"
    inputs = RANKS

    def check(self, block: Block) -> Findings:
        if block["init_r"] >= STEEP_RATIO * block["target_r"]:
            yield self.found(
                block.at_first(*RANKS),
                f"{_named(block, 'init_r')} is {block['init_r'] // block['target_r']} times "
                f"{_named(block, 'target_r')}",
                hint=f"set init_r to {_usual_start(block)} to {3 * block['target_r']}, "
                "1.5 to 3 times target_r",
            )


class RanksByModule(LoraRule):
    code = "ADA313"
    errors = ("`r` should be a positive integer value but the value passed is",)
    summary = "rank_pattern or alpha_pattern of LoRA has a value that is not one of r or lora_alpha"
    why = """LoRA's rank_pattern gives single modules another r, and its alpha_pattern another
    lora_alpha. PEFT raises for a rank below 1 or of another type, as soon as a module has the
    name. The lists of true and false in AdaLoRA's pattern are a TypeError."""
    bad = SOUND_LORA | {"rank_pattern": {"v_proj": 0}}
    hint = "write one number for each name"
    inputs = ("rank_pattern", "alpha_pattern")

    def check(self, block: Block) -> Findings:
        for key, value in block["rank_pattern"].items():
            if type(value) is not int or value < 1:
                got = value if isinstance(value, int) else name_of_value(value)
                message = f"`rank_pattern` of {key!r} should be an integer, at least 1, got {got}"
                yield self.found(block.at("rank_pattern", key), message)
        for key, value in block["alpha_pattern"].items():
            if not isinstance(value, (int, float)):
                got = name_of_value(value)
                message = f"`alpha_pattern` of {key!r} should be a number, got {got}"
                yield self.found(block.at("alpha_pattern", key), message)
