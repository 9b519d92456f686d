"""Rules on a missing total_step: in a configuration for training, and in a saved adapter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adalora_core.config.fields.value_kinds import LARGEST_INTEGER, name_of_value
from adalora_core.config.rules.base import SOUND, Finding, Findings, Rule

if TYPE_CHECKING:
    from adalora_core.config.fields.block import Block

TOTAL_STEP_ENFORCED_SINCE = "0.15.0"
"""The first PEFT release that refuses to load an adapter without it."""


class TotalStepMissing(Rule):
    code = "ADA201"
    errors = (
        "AdaLoRA does not work when `total_step` is None",
        "total_step - lora_config.tfinal ... unsupported operand type(s) for -: 'NoneType'",
    )
    summary = "total_step is missing, null or not positive"
    why = """The budget falls between tinit and total_step - tfinal, so AdaLoRA cannot run without
    the number of optimizer steps. PEFT refuses such a configuration since 0.15.0, also when it
    loads a saved adapter. In a file of another tool the tool may compute the number: there the
    finding is a warning, or none if the tool is known to compute it."""
    bad = {key: value for key, value in SOUND.items() if key != "total_step"}
    hint = """set total_step to the optimizer steps of the whole run: ceil(samples / (batch size *
    accumulation)) * epochs"""

    def check(self, block: Block) -> Findings:
        value = block["total_step"]
        if isinstance(value, bool) or not (value is None or isinstance(value, int)):
            return
        if value is not None and value < -LARGEST_INTEGER:
            return  # reported by rule out-of-range
        if value is None and block.is_saved:
            return  # reported by rule null-total-step-in-adapter
        if value is None and block.may_get_total_step:
            is_computed = block.tool is not None and block.tool.total_step == "computed"
            if not is_computed and "total_step" not in block.deferred:
                yield self._unless_computed(block)
            return
        if value is None or value <= 0:
            got = name_of_value(value) if "total_step" in block.values else "no total_step"
            yield self.found(
                block.at("total_step"),
                "AdaLoRA does not work when `total_step` is None, supply a value > 0. "
                f"Expected the number of optimizer steps of the run, got {got}{_by(block)}",
                severity="warning" if block.is_saved and block.runtime != "peft" else None,
                hint=block.tool.advice if _by(block) and block.tool else _needs_more_than(block),
            )

    def _unless_computed(self, block: Block) -> Finding:
        return self.found(
            block.at("total_step"),
            "`total_step` is not in this file: either the program that reads the file computes "
            "it, or AdaLoRA does not work when `total_step` is None, supply a value > 0",
            severity="warning",
            hint=f"if the program does not compute it, {_needs_more_than(block) or self.hint}",
        )


def _by(block: Block) -> str:
    if block.tool is None or block.tool.total_step != "never set":
        return ""
    return f"; {block.tool.name} has no setting for it and never passes it to PEFT"


def _needs_more_than(block: Block) -> str | None:
    if not block.invalid.isdisjoint({"tinit", "tfinal"}):
        return None
    least = block["tinit"] + block["tfinal"]
    if not least:
        return None
    return (
        f"{TotalStepMissing.hint}; it must be above tinit + tfinal = {least} "
        "(steps are optimizer steps, tfinal is the length of the last phase)"
    )


class NullTotalStepInAdapter(Rule):
    code = "ADA702"
    summary = "a saved adapter has no total_step: PEFT no longer loads it"
    why = f"""Since {TOTAL_STEP_ENFORCED_SINCE} PEFT requires total_step also when it loads an
    adapter for inference, where the number has no effect. Older adapters, saved by runs that never
    set it, raise a ValueError. The runtime adalora-core loads them with a warning."""
    bad = {key: value for key, value in SOUND.items() if key != "total_step"} | {
        "inference_mode": True,
        "rank_pattern": {"q_proj.lora_E": [True] * 8 + [False] * 4},
    }
    good = bad | {"total_step": 1000}
    hint = """set total_step to the number of steps of the training run; for inference any number
    above tinit + tfinal works"""
    inputs = ("inference_mode", "total_step")
    only_if_set = ("inference_mode",)

    def check(self, block: Block) -> Findings:
        if block.is_saved and block["total_step"] is None:
            yield self.found(
                block.at("total_step"),
                "AdaLoRA does not work when `total_step` is None, supply a value > 0. This saved "
                f"adapter has none, and PEFT >= {TOTAL_STEP_ENFORCED_SINCE} refuses to load it",
                "key",
                severity=None if block.runtime == "peft" else "warning",
            )
