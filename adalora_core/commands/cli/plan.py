"""Run `adalora plan`: show the phases, ranks and costs of a configuration before training."""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from adalora_core.checker.documents import read
from adalora_core.checker.documents.document import FORMATS
from adalora_core.checker.pipeline import CheckOptions
from adalora_core.checker.pipeline.inspection import examine
from adalora_core.checker.plan import costs as weights_costs
from adalora_core.checker.plan.matching import Matched, match
from adalora_core.checker.plan.modules import BaseModel, read_model
from adalora_core.checker.plan.plan import MANY_MATRICES, Plan, as_dict, as_text, plan_of
from adalora_core.commands.cli.arguments import Parser, add, choice, text
from adalora_core.commands.cli.output import FINDINGS, FINE, fail, print_text
from adalora_core.config.fields.table import Runtime
from adalora_core.floor.errors import MissingExtraError
from adalora_core.floor.escaping import visible
from adalora_core.floor.files import write_file
from adalora_core.floor.limits import DEFAULT_LIMITS
from adalora_core.floor.places import to_pointer

if TYPE_CHECKING:
    from adalora_core.config.fields.block import Block

_POINTS = 400


def run(argv: Sequence[str]) -> int:
    """Run `adalora plan FILE`.

    Return 1 if the configuration has errors or does not fit the weights, 2 if there is none.
    """
    options = make_parser().parse_args(argv)
    try:
        document = read(options.file, DEFAULT_LIMITS, options.format)
        found = examine(document, options.file, CheckOptions(options.runtime), key=options.key)
        if not found.blocks and not document.fatal:
            return fail("plan", _nothing_to_plan(options))
        if not found.report.ok:
            print_text(found.report.render("json" if options.output_format == "json" else "full"))
            return FINDINGS
        if unknown := ", ".join(sorted(found.blocks[0].deferred)):
            what = "number" if unknown == "total_step" else "values"
            return fail(
                "plan",
                f"{options.file}: known only when the run starts: {unknown}; write the {what} into "
                "a configuration file and plan that",
            )
        return _show(found.blocks[0], options)
    except (OSError, ValueError, MissingExtraError) as error:
        return fail("plan", error)


def _show(block: Block, options: argparse.Namespace) -> int:
    model, matched = None, None
    if options.weights is not None:
        model = read_model(options.weights)
        matched = match(block, model)
        if matched.problems:
            print_text(_problems_text(block, matched, options))
            return FINDINGS
    matrices = options.matrices if matched is None else len(matched.matrices)
    plan = plan_of(block, matrices or MANY_MATRICES)
    with_budget = matrices is not None
    # Draw before printing: if matplotlib is missing, nothing is printed.
    picture = None if options.plot is None else _picture(plan)
    if options.output_format == "json":
        shown = as_dict(plan, with_budget=with_budget)
        if model is not None and matched is not None:
            costs = weights_costs.costs_of(block, plan, matched, model)
            shown["weights"] = weights_costs.as_dict(costs, matched, model)
        print_text(_json(options.file, shown))
    else:
        print_text(as_text(plan, with_budget=with_budget))
        if model is not None and matched is not None:
            print_text("\n" + _costs_text(block, plan, matched, model))
    if picture is not None:
        write_file(Path(options.plot), picture)
        print(f"wrote {visible(options.plot)}", file=sys.stderr)
    return FINE


def _costs_text(block: Block, plan: Plan, matched: Matched, model: BaseModel) -> str:
    costs = weights_costs.costs_of(block, plan, matched, model)
    # Names come from the weights.
    matrices = tuple(replace(each, path=visible(each.path)) for each in matched.matrices)
    shown = replace(matched, matrices=matrices, notes=tuple(map(visible, matched.notes)))
    return weights_costs.as_text(costs, shown, model, plan)


def _json(file: str, entries: dict[str, object]) -> str:
    return json.dumps({"version": 1, "file": file, **entries}, indent=2) + "\n"


def _problems_text(block: Block, matched: Matched, options: argparse.Namespace) -> str:
    problems = []
    for each in matched.problems:
        pointer = to_pointer(block.at(each.field))
        problems.append({"pointer": pointer, "message": each.message, "hint": each.hint})
    if options.output_format == "json":
        return _json(options.file, {"problems": problems})
    lines = []
    for problem in problems:
        place = visible(f"{options.file} ({problem['pointer'] or '/'})")
        lines += [
            f"error: {visible(problem['message'])}",
            f"  --> {place}, matched against {visible(options.weights)}",
            f"  hint: {visible(problem['hint'])}",
            "",
        ]
    return "\n".join(lines)


def _nothing_to_plan(options: argparse.Namespace) -> str:
    if options.key is None:
        return f"{options.file}: no AdaLoRA configuration; point at it with --key /section"
    return f"{options.file}: no mapping at {options.key!r}"


def _picture(plan: Plan) -> bytes:
    """Draw the curve as a PNG.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("matplotlib", "plot", "--plot") from None
    figure = Figure(figsize=(7, 3.5), layout="constrained")
    axes = figure.add_subplot()
    curve = plan.curve(_POINTS)
    axes.step([step for step, _ in curve], [rank for _, rank in curve], where="post")
    for phase in plan.phases():
        if phase.length:
            axes.axvline(phase.first, color="0.8", zorder=0)
            axes.text(phase.first, 0.02, f" {phase.name}", transform=axes.get_xaxis_transform())
    axes.set(xlabel="optimizer step", ylabel="average rank", ylim=(0, None))
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    return buffer.getvalue()


def _matrices(value: str) -> int:
    if not value.isdecimal() or not int(value):
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {value!r}")
    return int(value)


_MODEL: dict[str, dict[str, Any]] = {
    "--weights": text(
        "PLACE",
        "safetensors file, index or folder of the model to adapt: also show the matched modules "
        "and their costs (only headers are read)",
    ),
    "--matrices": {"type": _matrices, **text("N", "number of adapted matrices in the model")},
}
_OPTIONS: dict[str, dict[str, Any]] = {
    "-o --output-format": choice(
        ("text", "json"), "format of the printed plan (default: text)", "text"
    ),
    "--plot": text("FILE.png", "also draw the curve to this file"),
    "--key": text("POINTER", "JSON pointer of the AdaLoRA mapping"),
    "--format": choice(FORMATS, "of the file (default: by its suffix, else json)"),
    "--runtime": choice(get_args(Runtime), "the package that will train (default: peft)", "peft"),
}


def make_parser() -> Parser:
    """Return the parser of `adalora plan`."""
    parser = Parser(
        prog="adalora plan",
        description="Show the phases, the allocations and the budget curve of a configuration.",
        epilog="exit code: 0 plan printed, 1 configuration has errors or does not fit the weights, "
        "2 could not run",
    )
    shown = "a JSON, YAML or TOML file, a Python script or a notebook"
    add(parser, {"file": text("FILE", shown)})
    add(parser.add_mutually_exclusive_group(), _MODEL)
    add(parser, _OPTIONS)
    return parser
