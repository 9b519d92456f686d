"""Answer the page: check, fix and plan a text. Runs in the reader's browser, under Pyodide."""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from typing import TYPE_CHECKING, Any, Literal

from known_models import MODELS

from adalora_core.checker.pipeline import CheckOptions
from adalora_core.checker.pipeline.fixing import fix
from adalora_core.checker.pipeline.inspection import Inspector
from adalora_core.checker.pipeline.suppression import Selection
from adalora_core.checker.plan.modules import Adapted, Injected
from adalora_core.checker.plan.plan import as_dict, costs_of, plan_of
from adalora_core.checker.reports import diagnostic_to_json
from adalora_core.checker.rules import explained
from adalora_core.floor.errors import ExpressionError
from adalora_core.floor.module_selection import (
    DEFAULT_TARGETS,
    ModuleSelection,
    is_all_linear,
    saved_module_names,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from adalora_core.checker.documents.document import Format
    from adalora_core.checker.plan.modules import BaseModel, Module
    from adalora_core.checker.reports import Examined
    from adalora_core.config.fields.block import Block
    from adalora_core.config.findings import Diagnostic
    from adalora_core.config.rules.base import Rule

_POINTS = 200
_NO_CONFIGURATION = "The plan appears here when the text holds a configuration."
# Each begins with its line: where \s* may begin anywhere, blank lines take quadratic time.
_TABLE = re.compile(r"^[ \t]*\[\[?[\w.\"'-]+\]\]?[ \t\r]*(#.*)?$", re.MULTILINE)
_CODE = re.compile(
    r"^[ \t\f]*(from[ \t]+[\w.]+[ \t]+import\b|import[ \t]+\w|def[ \t]|for[ \t].*:)"
    r"|Lor[aA]Config\s*+\(|\bupdate_and_allocate\(",
    re.MULTILINE,
)
_MAPPING = re.compile(r"(?:[ \t]*(?:#.*|---)?\n)*+(?:-[ \t]+)?[\w\"'-]++[ \t]*+:(?:\s|$)")
_OPTION = re.compile(r",? or [^;,]*--[\w-]+|; pass --[^;]*")
"""What a hint says of options of the command, which the page does not have."""
_TRACEBACK = re.compile(r"^[^\n]*Traceback \(most recent call last\)|^[\w.]*Error: ", re.MULTILINE)
_ASSIGNMENT = re.compile(r"^[\w.-]++[ \t]*+=", re.MULTILINE)


def answer(request: str) -> str:
    """Answer a request of the page; both are JSON.

    A request has `text`, `format` (empty: guess) and `runtime`. With `fix` it also asks to apply
    fixes: `"safe"`, `"all"`, or the number of one finding. The format of an answer is `"error"` for
    the message of an error, and empty for a text that is nothing of these.
    """
    asked = json.loads(request)
    text = asked["text"]
    format_ = asked["format"] or _format_of(text)
    if format_ in {"", "error"}:
        found = [_explained(rule) for rule in explained(text)] if format_ else []
        plain = {"text": text, "format": format_, "fixed": [], "findings": found}
        return json.dumps(plain | {"no_plan": _NO_CONFIGURATION})
    inspector = Inspector(CheckOptions(asked["runtime"]), Selection.of(), format=format_)
    found = _examined(inspector, text)
    fixed: tuple[Diagnostic, ...] = ()
    if (wanted := asked.get("fix")) is not None:
        better = _fixed(inspector, found, wanted)
        fixed = better.report.fixed
        if fixed:
            text = better.document.text
            found = _examined(inspector, text)
    same_text = found.document.text == text
    return json.dumps(
        {
            "text": text,
            "format": format_,
            "fixed": [
                {"code": d.code, "pointer": d.pointer, "description": d.fix.description}
                for d in fixed
                if d.fix is not None
            ],
            "findings": [_finding(d, text, same_text) for d in found.report.diagnostics],
            **_plan(found),
        }
    )


def _examined(inspector: Inspector, text: str) -> Examined:
    found = inspector.inspect(text.encode("utf-8", "surrogatepass"), "text", was_named=True)
    assert found is not None, "a named text always has a report"  # noqa: S101
    return found


def _fixed(inspector: Inspector, found: Examined, wanted: str | int) -> Examined:
    if isinstance(wanted, str):
        return inspector.fix(found, "text", was_named=True, unsafe=wanted == "all")
    chosen = found.report.diagnostics[wanted]

    def only(examined: Examined) -> Examined:
        same = tuple(
            d
            for d in examined.report.diagnostics
            if (d.code, d.pointer, d.message) == (chosen.code, chosen.pointer, chosen.message)
        )
        report = dataclasses.replace(examined.report, diagnostics=same)
        return dataclasses.replace(examined, report=report)

    return fix(only(found), lambda text: only(_examined(inspector, text)), unsafe=True)


def _explained(rule: Rule) -> dict[str, Any]:
    """Return what a rule says of an error, as a finding without a place."""
    names = {"code": rule.code, "name": rule.name, "severity": rule.severity, "hint": rule.hint}
    message = f"{rule.summary}. {rule.why}"
    return names | {"message": message, "pointer": "", "span": None, "related": [], "fix": None}


def _format_of(text: str) -> Format | Literal["", "error"]:
    """Guess the format of a text without a file name."""
    start = text.lstrip()
    if _TRACEBACK.search(text) and not start.startswith(("{", "[")):
        return "error"
    if start.startswith(("{", "[")) and not _TABLE.match(start):
        return "notebook" if '"nbformat"' in text and '"cells"' in text else "json"
    if _CODE.search(text):
        return "python"
    if _MAPPING.match(text):
        return "yaml"
    return "toml" if _TABLE.search(text) or _ASSIGNMENT.search(text) else ""


def _finding(diagnostic: Diagnostic, text: str, has_places: bool) -> dict[str, Any]:
    """Return a finding as in the JSON report, with offsets as JavaScript counts them."""
    finding = diagnostic_to_json(diagnostic)
    finding["hint"] = finding["hint"] and _OPTION.sub("", finding["hint"])
    places = [finding, *finding["related"]]
    for place in places:
        if not has_places:  # the text was decoded to another one: it declares an encoding
            place["span"] = None
        elif place["span"] is not None:
            for end in ("start", "end"):
                offset = place["span"][end]["offset"]
                units = text[:offset].encode("utf-16-le", "surrogatepass")
                place["span"][end]["offset"] = len(units) // 2
    return finding


def _plan(found: Examined) -> dict[str, Any]:
    """Return the plan of the first configuration, or the reason why there is none."""
    if not found.blocks:
        return {"no_plan": _NO_CONFIGURATION}
    if not found.report.ok:
        return {"no_plan": "The plan appears here when no error is left."}
    block = found.blocks[0]
    if block.is_lora:
        return {"no_plan": "LoRA has no schedule to plan."}
    if unknown := ", ".join(sorted(block.deferred)):
        return {"no_plan": f"No plan: known only when the run starts: {unknown}."}
    try:
        plan = plan_of(block)
    except ValueError as error:
        return {"no_plan": f"No plan: {error}."}
    shown = as_dict(plan, with_budget=False)
    for entry, phase in zip(shown["phases"], plan.phases(), strict=True):
        entry["what"] = phase.what
    shown["curve"] = plan.curve(_POINTS)
    models = [_costs(block, name, model) for name, model in _models().items()]
    return {"plan": shown, "models": models}


@functools.cache
def _models() -> dict[str, BaseModel]:
    return {shape.name: shape.model() for shape in MODELS}


def _costs(block: Block, name: str, model: BaseModel) -> dict[str, Any]:
    """Return what the configuration costs on a model, or why it does not fit."""
    row = {"name": name, "parameters": model.parameters}
    try:
        matrices = list(_matrices(block, model))
    except ExpressionError as error:
        return row | {"problem": f"{error.field}: {error.problem}"}
    if not matrices:
        return row | {"problem": "target_modules matches no linear layer"}
    # The plan takes ranks and scale of the configuration, and the sizes of the modules.
    adapted = (Adapted(each.path, each.kind, 0, 0, 1, {}, "", each.path) for each in matrices)
    costs = costs_of(plan_of(block, len(matrices)), Injected(model, tuple(adapted)))
    trained = costs["trainable_parameters"]
    return row | {
        "matrices": len(matrices),
        "start": trained["start"],
        "end": trained["end"],
        "adapter_bytes": costs["adapter_bytes"],
    }


def _matrices(block: Block, model: BaseModel) -> Iterator[Module]:
    """Yield the linear layers that a configuration selects by their names."""
    targets = block["target_modules"] or DEFAULT_TARGETS.get(model.model_type or "", ())
    linear = model.of_kind("linear")
    if is_all_linear(targets):
        targets = [each.path for each in linear if not model.is_output_head(each)]
    saved = saved_module_names(block["modules_to_save"], block["task_type"])
    fields = (block[name] for name in ("exclude_modules", "layers_to_transform", "layers_pattern"))
    selection = ModuleSelection(targets, *fields, saved)
    for each in linear:
        if selection.includes(each.path) and not selection.excludes(each.path):
            yield each
