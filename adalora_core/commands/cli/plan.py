"""Run `adalora plan`: show the phases, ranks and costs of a configuration before training."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from adalora_core.checker.documents import read
from adalora_core.checker.documents.document import FORMATS
from adalora_core.checker.pipeline import CheckOptions
from adalora_core.checker.pipeline.inspection import examine
from adalora_core.checker.plan import lora_report
from adalora_core.checker.plan.adapter_tensors import RULES, SavedLora, is_usual
from adalora_core.checker.plan.modules import Injected, RefusedError
from adalora_core.checker.plan.plan import (
    MANY_MATRICES,
    as_dict,
    as_text,
    costs_as_text,
    costs_of,
    plan_of,
)
from adalora_core.checker.plan.sizing import Limit, Proposal, for_adalora, for_lora
from adalora_core.commands.cli.console import (
    BOUND,
    FINDINGS,
    FINE,
    Parser,
    budget,
    choice,
    fail,
    print_json,
    print_text,
    text,
)
from adalora_core.commands.injection import quiet
from adalora_core.config.fields.table import LORA, Runtime
from adalora_core.floor.errors import MissingExtraError
from adalora_core.floor.escaping import visible
from adalora_core.floor.files import refuse_links_out
from adalora_core.floor.limits import DEFAULT_LIMITS
from adalora_core.floor.places import to_pointer

if TYPE_CHECKING:
    from adalora_core.checker.reports import Examined
    from adalora_core.commands.injection.base_model import Base
    from adalora_core.config.fields.block import Block


_WEIGHTS = """folder, index or safetensors file of the model to adapt: also show what PEFT adapts
and what it costs (no weights are read)"""
_BUDGET = "propose the largest ranks that fit: 20MB, 2M (parameters) or 500 triplets"
_FORM = "format of the printed plan (default: text)"
_CLASS = "transformers' class of the model (default: that of config.json)"
_OPTIONS = {
    "--weights": text("PLACE", _WEIGHTS),
    "--class": text("NAME", _CLASS) | {"dest": "class_name"},
    "-o --output-format": choice(("text", "json"), _FORM, "text"),
    "--budget": text("AMOUNT", _BUDGET) | {"type": budget},
    "--key": text("POINTER", "JSON pointer of the mapping"),
    "--format": choice(FORMATS, "of the file (default: by its suffix, else json)"),
    "--runtime": choice(get_args(Runtime), "the package that will train (default: peft)", "peft"),
}


def run(argv: Sequence[str]) -> int:
    """Run `adalora plan FILE`.

    Return 1 if the configuration has errors or does not fit the weights, 2 if there is none.
    """
    shown = "a JSON, YAML or TOML file, a Python script, a notebook or the folder of an adapter"
    parser = Parser(
        "plan",
        "Show what a configuration will do: phases, allocations and budget of AdaLoRA; modules, "
        "sizes and scales of LoRA, rsLoRA or DoRA.",
        {
            "adalora plan run.yaml": "the phases of a run",
            "adalora plan run.yaml --weights MODEL": "modules, parameters and memory",
        },
        {"file": text("FILE", shown), **_OPTIONS, **BOUND},
        epilog="exit code: 0 plan printed, 1 configuration has errors or does not fit the weights, "
        "2 could not run",
    )
    options = parser.parse_args(argv)
    folder = Path(options.file) if Path(options.file).is_dir() else None
    file = options.file if folder is None else str(folder / "adapter_config.json")
    try:
        if folder is not None:
            refuse_links_out(folder)
        document, check = read(file, DEFAULT_LIMITS, options.format), CheckOptions(options.runtime)
        found = examine(document, file, check, key=options.key)
        blocks: Sequence[Block] = found.blocks
        if options.budget and _lacks_only_steps(found):
            pass  # the proposed ranks do not depend on the schedule
        elif not blocks and not document.fatal:
            why = "no configuration of AdaLoRA or LoRA; point at it with --key /section"
            why = why if options.key is None else f"no mapping at {options.key!r}"
            return fail("plan", f"{options.file}: {why}")
        elif blocks and _is_of_another_method(blocks[0]):
            why = f"not planned: {blocks[0].values['peft_type']!r} is neither ADALORA nor LORA"
            return fail("plan", f"{file}: {why}")
        elif not (found.report.ok or (blocks and blocks[0].is_lora)):  # PEFT answers for LoRA
            print_text(found.report.render("json" if options.output_format == "json" else "full"))
            return FINDINGS
        if unknown := ", ".join(sorted(_deferred(blocks[0]))):
            what = "number" if unknown == "total_step" else "values"
            return fail(
                "plan",
                f"{file}: known only when the run starts: {unknown}; write the {what} into "
                "a configuration file and plan that",
            )
        if blocks[0].is_lora:
            return _show_lora(blocks, folder, options)
        return _show(blocks[0], options)
    except RefusedError as error:
        return _refuse(error, options)
    except (OverflowError, RuntimeError) as error:
        why = f"{options.file}: a number is too large for a plan ({error})"
        return fail("plan", why if isinstance(error, OverflowError) else error)


def _is_of_another_method(block: Block) -> bool:
    return block.is_other_method and block.values["peft_type"].strip().upper() != LORA


def _lacks_only_steps(found: Examined) -> bool:
    """Return whether total_step is all that a configuration lacks."""
    codes = {each.code for each in found.report.errors}
    return codes == {"ADA201"} and found.blocks[0]["total_step"] is None


def _deferred(block: Block) -> frozenset[str]:
    unread = {"alora_invocation_tokens", "base_model_name_or_path", "revision"}
    return block.deferred - unread if block.is_lora else block.deferred


class _Injections:
    """What PEFT makes of a configuration for the model of `--weights`, with other ranks too."""

    def __init__(self, options: argparse.Namespace, block: Block) -> None:
        try:
            with quiet():
                from adalora_core.commands.injection import base_model, injecting
        except ImportError as error:
            raise MissingExtraError("peft", "peft", "plan --weights") from error
        if sys.stderr.isatty():
            print(f"asking {injecting.RELEASE} ...", file=sys.stderr)
        self._inject = injecting.inject
        with quiet():
            self.base: Base = base_model.read_base(
                options.weights, options.class_name or base_model.class_of_saved(block.values)
            )

    def of(self, block: Block, **values: Any) -> Injected:
        """Return the injection of a configuration with other values of some fields."""
        try:
            return self._inject(_replaced(block, **values), self.base)
        except RefusedError as error:
            error.path = block.at(error.field)
            raise


def _replaced(block: Block, **values: Any) -> Block:
    return replace(block, values={**block.values, **values})


def _show(block: Block, options: argparse.Namespace) -> int:
    found, proposal, matrices = None, None, MANY_MATRICES
    if options.weights is not None:
        injections = _Injections(options, block)
        found = injections.of(block)
        matrices = len(found.adapted)
    if options.budget is not None:
        if found is None:
            needed = "add --weights with the model's folder or file"
            raise ValueError(f"--budget needs the sizes of the modules: {needed}")
        limit, injected = Limit(*options.budget), partial(injections.of, block, target_r=1)
        proposal = for_adalora(block, limit, found, lambda rank: injected(init_r=rank))
        block = _replaced(block, **proposal.values)
    try:
        plan = plan_of(block, matrices)
    except ValueError as error:
        if proposal is None or options.output_format == "json":
            raise
        print_text(f"{proposal.as_text()}note: no plan: {error}\n")
        return FINE
    with_budget = found is not None
    shown, text = as_dict(plan, with_budget=with_budget), as_text(plan, with_budget=with_budget)
    weights = {}
    if found is not None:
        costs = costs_of(plan, found)
        weights = {"weights": costs}
        text += "\n" + costs_as_text(costs, found, plan)
    _print(options, proposal, (shown, weights), text)
    return FINE


def _show_lora(blocks: Sequence[Block], folder: Path | None, options: argparse.Namespace) -> int:
    if options.budget and not options.weights:
        why = "--budget needs its modules: add --weights"
        return fail("plan", f"{options.file} is of LoRA: {why}")
    block, found, proposal, expected = blocks[0], None, None, None
    if options.weights is not None:
        injections = _Injections(options, block)
        found = injections.of(block)
        expected = injections.base.sizes_of(found.file)
        if options.budget is not None:
            limit = Limit(*options.budget)
            proposal = for_lora(block, limit, found, lambda rank: injections.of(block, r=rank))
            block = _replaced(block, **proposal.values)
            found = injections.of(block)
    notes = [] if found is None else list(found.notes)
    saved = None if folder is None else SavedLora(folder, block.values)
    faults = [] if saved is None else saved.faults(expected)
    if saved and not faults and (found or is_usual(block.values)):
        what = " and of the base model" * (found is not None)
        notes.append(f"the tensors are those of the configuration{what}")
    if len(blocks) > 1:
        keys = " or ".join(f"--key {to_pointer(each.path)}" for each in blocks[1:3])
        notes.append(f"the first of {len(blocks)} configurations; for others {keys}")
    is_json = options.output_format == "json"
    entries = lora_report.as_dict(block, found, notes) if is_json else {}
    text = "" if is_json else lora_report.as_text(block, found, notes)
    for fault in faults:
        message, hint = visible(fault.message), visible(fault.hint)
        text += f"{fault.severity}[{RULES[fault.kind].code}]: {message}\n  hint: {hint}\n"
    more = {} if folder is None else {"faults": [asdict(fault) for fault in faults]}
    _print(options, proposal, (entries, more), text)
    return FINDINGS if any(each.severity == "error" for each in faults) else FINE


def _print(
    options: argparse.Namespace,
    proposal: Proposal | None,
    entries: Sequence[dict[str, Any]],
    text: str,
) -> None:
    if options.output_format == "json":
        first, last = entries
        proposed = {} if proposal is None else {"proposal": proposal.as_dict()}
        print_json(file=options.file, **first, **proposed, **last)
    else:
        print_text(text if proposal is None else f"{proposal.as_text()}\n{text}")


def _refuse(error: RefusedError, options: argparse.Namespace) -> int:
    pointer, message, hint = to_pointer(error.path), error.message, error.hint
    if options.output_format == "json":
        found = {"pointer": pointer, "message": message, "hint": hint}
        print_json(file=options.file, problems=[found])
        return FINDINGS
    place = f"{options.file} ({pointer or '/'})"
    place += f", matched against {options.weights}" if options.weights else ""
    text = f"error: {visible(message)}\n  --> {visible(place)}\n  hint: {visible(hint)}\n"
    print_text(text)
    return FINDINGS
