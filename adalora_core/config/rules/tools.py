"""Rules of family ADA2xx on the tools that read a configuration and may set total_step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adalora_core.config.fields.value_kinds import LARGEST_INTEGER, name_of_value
from adalora_core.config.rules.base import SOUND, Finding, Findings, Rule
from adalora_core.config.rules.values import unknown_keys

if TYPE_CHECKING:
    from adalora_core.config.fields.block import Block


class TotalStepMissing(Rule):
    code = "ADA201"
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
            meant, hint = _misspelt(block) or ("", _needs_more_than(block))
            yield self.found(
                block.at("total_step"),
                "AdaLoRA does not work when `total_step` is None, supply a value > 0. "
                f"Expected the number of optimizer steps of the run, got {got}"
                f"{_by(block) or meant}",
                severity="warning" if block.is_saved and block.runtime != "peft" else None,
                hint=block.tool.advice if _by(block) and block.tool else hint,
            )

    def _unless_computed(self, block: Block) -> Finding:
        meant, hint = _misspelt(block) or ("", _needs_more_than(block) or self.hint)
        return self.found(
            block.at("total_step"),
            "`total_step` is not in this file: either the program that reads the file computes "
            "it, or AdaLoRA does not work when `total_step` is None, supply a value > 0"
            f"{meant}",
            severity="warning",
            hint=f"if the program does not compute it, {hint}",
        )


def _by(block: Block) -> str:
    if block.tool is None or block.tool.total_step != "never set":
        return ""
    return f"; {block.tool.name} has no setting for it and never passes it to PEFT"


def _misspelt(block: Block) -> tuple[str, str] | None:
    """Name the key that was probably meant to be total_step, and the order that mends it."""
    if "total_step" in block.values:
        return None
    for fault, meant in unknown_keys(block):
        if meant == "total_step":
            return f"; `{fault.name}` was probably meant", f"rename `{fault.name}` to `total_step`"
    return None


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


class ToolTrainsOtherwise(Rule):
    code = "ADA211"
    severity = "warning"
    summary = "the tool that reads the file does not allocate as the settings ask"
    why = """Some tools accept AdaLoRA's settings and then train another method: the ranks are never
    allocated, or by scores of the wrong moment. Nothing in their output shows it. A tool that has
    no AdaLoRA and refuses the file is an error, and nothing else is reported. The releases that
    were read are part of the message."""
    bad = """\
model: Qwen/Qwen2.5-7B-Instruct
tuner_type: adalora
adalora_init_r: 12
adalora_target_r: 8
target_modules: [q_proj, v_proj]
"""
    good = """\
peft_type: ADALORA
target_modules: [q_proj, v_proj]
init_r: 12
target_r: 8
lora_alpha: 16
tinit: 200
tfinal: 200
total_step: 1000
"""
    language = "yaml"
    hint = "allocate by a callback of your own, or use a tool that allocates"
    needs = "tool"

    def check(self, block: Block) -> Findings:
        if block.tool is not None and block.tool.remark is not None:
            yield self.found(
                block.path if block.marker is None else block.marker,
                f"{block.tool.name} {block.tool.remark}",
                "key",
                severity="error" if block.is_refused else None,
                hint=block.tool.advice,
            )
