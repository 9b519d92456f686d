"""Family ADA2xx, first part: total_step, warm-up, budgeting and final phase, and who allocates."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from adalora_core.config.fields.block import Block
from adalora_core.config.fields.value_kinds import LARGEST_INTEGER, name_of_value
from adalora_core.config.findings import Put, Remedy, Severity
from adalora_core.config.rules.base import SOUND, Findings, Rule
from adalora_core.floor.places import Path

LONGEST_FINAL_PHASE = 0.60
"""Above this share of the run tfinal looks like an end step. Every misread tfinal found in public
is above it; the largest share in the paper is 0.55."""

PHASE_FIELDS = ("tinit", "tfinal", "total_step")
ALLOCATION_FIELDS = (*PHASE_FIELDS, "deltaT")


def is_share(name: str, value: object) -> bool:
    """Return whether a field that counts steps holds a share of the run, such as 0.1."""
    return name in ALLOCATION_FIELDS and isinstance(value, float) and 0 < value < 1


def phases(tinit: int, tfinal: int, total_step: int) -> str:
    """Describe the three phases of a schedule without a budgeting phase, in absolute steps."""
    start = total_step - tfinal
    # Where both phases would have a step, it belongs to the final phase.
    warmup = _span(0, min(tinit, start - 1, total_step - 1))
    final = _span(start, total_step - 1)
    if start < 0:
        final = f"{tfinal} steps, more than the whole run"
    return f"warm-up: {warmup}; budgeting: no steps; final phase: {final}"


def _span(first: int, last: int) -> str:
    if first > last:
        return "no steps"
    return f"step {first}" if first == last else f"steps {first} to {last}"


class NoBudgetingPhase(Rule):
    code = "ADA202"
    errors = (
        "The supplied schedule values don't allow for a budgeting phase",
        "kthvalue(): selected number k out of range",
    )
    summary = "tinit and tfinal leave no step in which the budget can fall"
    why = """The budget falls from step tinit to step total_step - tfinal. PEFT refuses a schedule
    in which the first step is not before the second. Usually tfinal was read as the step where the
    final phase begins or ends, but tfinal is the length of that phase."""
    bad = SOUND | {"tinit": 300, "tfinal": 800}
    hint = "decrease tinit or tfinal, or increase total_step"
    unsafe_fix = """a tfinal that would be valid as the first step of the final phase becomes the
    length of that phase, total_step - tfinal"""
    inputs = PHASE_FIELDS

    def check(self, block: Block) -> Findings:
        total_step = block["total_step"]
        tinit, tfinal = block["tinit"], block["tfinal"]
        if total_step is None or tinit < total_step - tfinal:
            return
        room = {"tinit": total_step - tfinal - 1, "tfinal": total_step - tinit - 1}
        free = {name: most for name, most in room.items() if most >= 0}
        options = [f"{name} to at most {most}" for name, most in free.items()]
        options.append(f"total_step to at least {max(1, tinit + tfinal + 1)}")
        hint = f"set {', or '.join(options)}"
        if not free:
            hint = f"total_step counts optimizer steps, not epochs: {hint}"
        # A phase that fills the run alone is the slip, if the other one does not.
        slip = next(iter(free)) if len(free) == 1 else "total_step"
        remedy = None
        if tfinal > tinit and tfinal < total_step:
            meant = total_step - tfinal
            hint += (
                f"; tfinal is a length: if step {tfinal} was meant as the start of the final "
                f"phase, write tfinal {meant}"
            )
            remedy = _as_length(block, meant)
        yield self.found(
            block.at(slip),
            "The supplied schedule values don't allow for a budgeting phase: "
            f"tinit {tinit} >= total_step {total_step} - tfinal {tfinal} "
            f"({phases(tinit, tfinal, total_step)})",
            severity="warning" if block.is_saved and block.runtime != "peft" else None,
            hint=hint,
            related=block.notes(*(name for name in PHASE_FIELDS if name != slip)),
            remedy=remedy,
        )


def _as_length(block: Block, length: int) -> Remedy:
    change = Put(block.at("tfinal"), length)
    return Remedy(f"Write tfinal as a length, {length}", change, is_safe=False)


class DeltaTNotPositive(Rule):
    code = "ADA204"
    summary = "deltaT is zero or negative"
    why = """PEFT computes step % deltaT: zero is a ZeroDivisionError at the first step after the
    warm-up, in the middle of the training run. A negative deltaT has the multiples of the positive
    one, and a saved adapter is loaded without deltaT, so there the finding is only a warning."""
    bad = SOUND | {"deltaT": 0}
    hint = "set deltaT to the optimizer steps between two allocations, at least 1"
    fails_at_allocation = True

    def check(self, block: Block) -> Findings:
        value = block["deltaT"]
        if isinstance(value, int) and not isinstance(value, bool) and -LARGEST_INTEGER < value < 1:
            severity: Severity | None = None if _divides(block) else "warning"
            message = f"`deltaT` should be at least 1, got {value}"
            yield self.found(block.at("deltaT"), message, severity=severity)


def _divides(block: Block) -> bool:
    """Return whether the run reaches a step at which a deltaT below 1 fails."""
    if block.is_saved or block.runtime != "peft":
        return not block.is_saved
    if not block.invalid.isdisjoint(PHASE_FIELDS) or block["total_step"] is None:
        return bool(block["deltaT"] == 0)
    last = min(block["total_step"] - block["tfinal"], block["total_step"] - 1)
    return bool(block["deltaT"] == 0 and max(block["tinit"] + 1, 0) <= last)


class ContradictsTrainer(Rule):
    code = "ADA205"
    severity = "warning"
    summary = "total_step differs from the trainer's own number of steps in the same file"
    why = """If the trainer stops earlier, the final phase, or even the budgeting phase, never ends.
    If it runs longer, the steps after total_step train with the final ranks."""
    bad = (
        '{"max_steps": 500,\n'
        ' "peft": {"peft_type": "ADALORA", "target_modules": ["q_proj"], "init_r": 12,\n'
        '          "target_r": 8, "tinit": 200, "tfinal": 200, "total_step": 1000}}\n'
    )
    good = bad.replace("500", "1000")
    example_options = {"key": "/peft"}
    hint = "set both to the optimizer steps of the whole run"
    inputs = ("total_step",)

    def check(self, block: Block) -> Findings:
        if not isinstance(block.root, dict) or block.root is block.values:
            return
        for path, steps in _trainer_steps(block.root):
            if block["total_step"] is not None and steps != block["total_step"]:
                yield self.found(
                    block.at("total_step"),
                    f"`total_step` is {block['total_step']}, but the trainer runs {steps} steps",
                    hint=f"if the trainer is right, set total_step to {steps}",
                    related=((path, f"{path[-1]} is {steps}"),),
                )


def _trainer_steps(root: dict[Any, Any]) -> Iterator[tuple[Path, int]]:
    """Yield `max_steps` of the document and of its sections; -1 and 0 mean "by epochs"."""
    for path, section in (((), root), *(((key,), each) for key, each in root.items())):
        steps = section.get("max_steps") if isinstance(section, dict) else None
        if type(steps) is int and steps > 0:
            yield (*path, "max_steps"), steps


class TfinalLooksAbsolute(Rule):
    code = "ADA209"
    severity = "warning"
    summary = f"tfinal is more than {LONGEST_FINAL_PHASE:.0%} of the run, as if it were an end step"
    why = """tfinal is the length of the final phase in steps, not the step where pruning ends.
    Several public projects and tutorials misread it. The result is a short, early budgeting phase
    that nobody planned."""
    bad = SOUND | {"tinit": 100, "tfinal": 700, "deltaT": 5}
    hint = "if tfinal was meant as the step where pruning ends, write total_step - tfinal"
    unsafe_fix = "tfinal becomes total_step - tfinal"
    inputs = PHASE_FIELDS

    def check(self, block: Block) -> Findings:
        total_step, tfinal, tinit = block["total_step"], block["tfinal"], block["tinit"]
        if total_step is None or tinit >= total_step - tfinal:
            return
        if tfinal > LONGEST_FINAL_PHASE * total_step:
            hint = f"if pruning should end at step {tfinal}, write tfinal {total_step - tfinal}"
            yield self.found(
                block.at("tfinal"),
                f"`tfinal` is a length: pruning ends at step {total_step - tfinal} and the last "
                f"{tfinal} of {total_step} steps only fine-tune",
                hint=hint,
                remedy=_as_length(block, total_step - tfinal),
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
        tool = block.tool
        if tool is None:
            return
        if tool.remark is not None:
            yield self.found(
                block.path if block.marker is None else block.marker,
                f"{tool.name} {tool.remark}",
                "key",
                severity="error" if block.is_refused else None,
                hint=tool.advice,
            )
        top = block.root if isinstance(block.root, dict) else {}
        for key, advice in tool.refused_keys.items():
            if top.get(key) not in (None, False, [], {}, ""):
                message = f"{tool.name} stops at `{key}` beside AdaLoRA"
                yield self.found((key,), message, "key", severity="error", hint=advice)


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
        if value is None and not block.is_saved and _may_be_computed(block):
            is_computed = block.tool is not None and block.tool.total_step == "computed"
            if not is_computed and "total_step" not in block.deferred:
                yield self.found(
                    block.at("total_step"),
                    "`total_step` is not in this file: either the program that reads the file "
                    "computes it, or AdaLoRA does not work when `total_step` is None, supply a "
                    "value > 0",
                    severity="warning",
                    hint="if the program does not compute it, "
                    f"{_needs_more_than(block) or self.hint}",
                )
        # Rules null-total-step-in-adapter and out-of-range report the others.
        elif (value is None and not block.is_saved) or (
            type(value) is int and -LARGEST_INTEGER <= value <= 0
        ):
            got = name_of_value(value) if "total_step" in block.values else "no total_step"
            tool, by = block.tool, ""
            if tool is not None and tool.total_step == "never set":
                by = f"; {tool.name} has no setting for it and never passes it to PEFT"
            yield self.found(
                block.at("total_step"),
                "AdaLoRA does not work when `total_step` is None, supply a value > 0. "
                f"Expected the number of optimizer steps of the run, got {got}{by}",
                severity="warning" if block.is_saved and block.runtime != "peft" else None,
                hint=tool.advice if tool is not None and by else _needs_more_than(block),
            )


def _may_be_computed(block: Block) -> bool:
    """Return whether the program that reads the file may compute `total_step` itself."""
    if block.layout == "python" or "total_step" in block.deferred:
        return "total_step" in block.deferred
    if block.tool is not None:
        return block.tool.total_step in {"computed", "unknown"}
    return block.layout != "peft" or bool(block.path)


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

    def check(self, block: Block) -> Findings:
        if block.is_saved and block["total_step"] is None:
            yield self.found(
                block.at("total_step"),
                "AdaLoRA does not work when `total_step` is None, supply a value > 0. This saved "
                f"adapter has none, and PEFT >= {TOTAL_STEP_ENFORCED_SINCE} refuses to load it",
                "key",
                severity=None if block.runtime == "peft" else "warning",
            )
