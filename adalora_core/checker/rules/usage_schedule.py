"""Find schedules of a script that leave a phase out, whatever their length comes to."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import TYPE_CHECKING

from adalora_core.checker.documents.python.syntax import last_name
from adalora_core.checker.rules.usage_base import (
    HEAD,
    LOOP,
    AllocationRule,
    CodeFault,
    UsageRule,
)

if TYPE_CHECKING:
    from adalora_core.checker.scripts.events import Event, Trace
    from adalora_core.checker.scripts.usage import Usage

_WHOLE = 1.0
_PLAIN = frozenset({"int", "round", "floor", "ceil", "float"})
_TOTAL = HEAD.replace("\nconfig", "\ntotal = 3 * len(loader)\nconfig").replace(
    "total_step=1000", "total_step=total"
)


class SharesLeaveNoBudgeting(UsageRule):
    code = "ADA937"
    summary = "tinit and tfinal are shares of the run that leave nothing between them"
    why = """The budget falls from step tinit to step total_step - tfinal: tfinal is the length of
    the last phase, not the step where it begins. PEFT raises a ValueError when the configuration
    is built, or one step is left by rounding."""
    bad = (
        _TOTAL.replace("tinit=200", "tinit=int(0.1 * total)").replace(
            "tfinal=200", "tfinal=int(0.9 * total)"
        )
        + LOOP
    )
    good = bad.replace("0.9 * total", "0.3 * total")
    hint = "give both phases together less than the whole run, such as a tenth and three tenths"

    def check_usage(self, usage: Usage) -> Iterator[CodeFault]:
        """Yield a fault for each configuration whose length is not known, but its shares are."""
        for call in usage.script.calls:
            entries = [call.entries.get(n, (None, None)) for n in ("total_step", "tinit", "tfinal")]
            values = [value for _, value in entries if value is not None]
            if len(values) < len(entries) or usage.assigns_total:
                continue
            totals = {ast.unparse(each) for each in (values[0], *usage.origins(values[0]))}
            if usage.value(values[0]) is not None:
                continue
            parts = [_share(usage, each, totals) for each in values[1:]]
            known = [each for each in parts if each is not None]
            share = round(sum(each for each, _ in known), 9)
            rest = sum(each for _, each in known)
            if len(known) == len(parts) and (share > _WHOLE or (share == _WHOLE and rest >= 0)):
                texts = " + ".join(f"`{ast.unparse(each)[:60]}`" for each in values[1:])
                key = entries[2][0]
                yield CodeFault(key or call.node, f"tinit + tfinal is {texts}: the whole run")


def _share(usage: Usage, node: ast.expr, totals: set[str]) -> tuple[float, float] | None:
    """Return a number as a share of the total, and what is added to it; None: not known."""
    known = usage.script.values.of(node)
    leaves = usage.origins(node)
    if ast.unparse(node) in totals:
        return 1.0, 0.0
    if type(known) in {int, float}:
        return 0.0, float(known)
    if len(leaves) == 1 and leaves[0] is not node:
        return _share(usage, leaves[0], totals)
    if isinstance(node, ast.Call) and last_name(node.func) in _PLAIN and node.args:
        return _share(usage, node.args[0], totals)
    return _joined(usage, node, totals) if isinstance(node, ast.BinOp) else None


def _joined(usage: Usage, node: ast.BinOp, totals: set[str]) -> tuple[float, float] | None:
    left, right = (_share(usage, each, totals) for each in (node.left, node.right))
    if left is None or right is None:
        return None
    if isinstance(node.op, ast.Add | ast.Sub):
        sign = 1 if isinstance(node.op, ast.Add) else -1
        return left[0] + sign * right[0], left[1] + sign * right[1]
    if isinstance(node.op, ast.Mult) and not (left[0] and right[0]):
        factor, other = (left[1], right) if not left[0] else (right[1], left)
        return factor * other[0], factor * other[1]
    if isinstance(node.op, ast.Div | ast.FloorDiv) and not right[0] and right[1]:
        return left[0] / right[1], left[1] / right[1]
    return None


class AllocationEndsEarly(AllocationRule):
    code = "ADA938"
    only_with = ("tfinal",)
    summary = "update_and_allocate is not called any more in the final phase"
    why = """The call at step total_step - tfinal fixes which triplets are kept, and the calls after
    it hold the others at zero. Without them the optimizer brings dropped triplets back, and
    rank_pattern, which the saved adapter needs, is never written."""
    bad = HEAD + LOOP.replace(
        "    model.base_model",
        "    if step < config.total_step - config.tfinal:\n        model.base_model",
    )
    good = HEAD + LOOP
    hint = "call it after every step of the optimizer, without the condition"

    def check_call(self, usage: Usage, trace: Trace, event: Event) -> CodeFault | None:
        """Return a fault if a condition compares the step with the end of the budgeting."""
        del trace
        for guard in event.guards:
            test = guard.test
            if not isinstance(test, ast.Compare) or len(test.ops) > 1:
                continue
            ends = ast.Lt | ast.LtE if guard.holds else ast.Gt | ast.GtE
            nodes = usage.mentions(test.comparators[0])
            words = {last_name(node).lower() for node in nodes if isinstance(node, ast.expr)}
            if isinstance(test.ops[0], ends) and "tfinal" in words:
                message = f"update_and_allocate is called only while `{ast.unparse(test)[:60]}`"
                return CodeFault(event.node, message, note=(test, "the condition"))
        return None
