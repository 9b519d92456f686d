"""Find calls of `update_and_allocate` at a wrong moment: too often, too early, too late."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

from adalora_core.checker.documents.python.syntax import (
    FUNCTION,
    Function,
    keyword,
    last_name,
    walk,
)
from adalora_core.checker.rules.usage_base import (
    CALLBACK,
    HEAD,
    LOOP,
    PLACES,
    AllocationRule,
    CodeFault,
    example,
    shown,
)
from adalora_core.checker.scripts.counters import step_counter
from adalora_core.checker.scripts.frameworks import ALLOCATE, HOOKS, NEVER_CALLED
from adalora_core.checker.scripts.step_order import (
    accumulation,
    accumulation_guards,
    can_exceed_one,
    is_per_micro_batch,
    placement,
)
from adalora_core.config.findings import Remedy, Replace

if TYPE_CHECKING:
    from adalora_core.checker.scripts.events import Event, Guard, Placement
    from adalora_core.checker.scripts.usage import Usage

_STEP, _CALL, _DROP = LOOP.splitlines(keepends=True)[2:]
_ACCUMULATED = """\
accelerator = Accelerator(gradient_accumulation_steps=4)
step = 0
for batch in loader:
    with accelerator.accumulate(model):
        accelerator.backward(model(**batch).loss)
        optimizer.step()
        if accelerator.sync_gradients:
            model.base_model.update_and_allocate(step)
            step += 1
        optimizer.zero_grad()
"""
_MAIN_PROCESS = re.compile(
    r"\bis_(?:local_)?main_process\b|\bis_(?:world|local)_process_zero\b|\bis_(?:main|master)\b"
    r"|\bis_global_zero\b|(?:\b|get_|local_|global_)rank(?:\(\))? (?:== 0\b|in [\[(]-1, 0[\])])"
)
_OTHER_PROCESS = re.compile(r"(?:\b|get_|local_|global_)rank(?:\(\))? (?:!= 0|> 0|>= 1)\b")
_THE_STEP = "the step of the optimizer"
_ACCELERATE = "from accelerate import Accelerator"
_TRAINER = "from transformers import Trainer, TrainerCallback"


class AllocationForEachMicroBatch(AllocationRule):
    code = "ADA905"
    summary = "update_and_allocate is called for each micro-batch, optimizer.step() more rarely"
    why = """Gradients accumulate over the micro-batches, so the first of them count several times,
    and the schedule, which counts steps of the optimizer, ends before the run does."""
    good = example(_ACCUMULATED, _ACCELERATE)
    bad = re.sub(" *if accelerator.sync_gradients:\n    (.*\n)    (.*\n)", r"\1\2", good)
    hint = "call it once for each optimizer.step(), under the same condition"

    def check_call(self, usage: Usage, event: Event) -> CodeFault | None:
        place = placement(event)
        if place is not None and is_per_micro_batch(usage, event, place):
            message = (
                "update_and_allocate is called for each micro-batch, and optimizer.step() is not "
                "made for each"
            )
            hint = PLACES["accelerate"] if place.step.accumulations else None
            return CodeFault(event.node, message, hint, (place.step.node, _THE_STEP))
        if place is not None and not event.guards and _accumulates_unasked(usage):
            message = "Accelerator accumulates, and without accumulate() each micro-batch is a step"
            return CodeFault(event.node, message, PLACES["accelerate"])
        method = event.trace.function
        is_hook = method is not None and method.name == "on_train_batch_end"
        is_hook = is_hook and usage.framework(method) == "lightning"
        waits = usage.once(accumulation) if is_hook else None
        # A new `global_step` is known to be one step of the optimizer.
        parts = (walk(guard.test, ast.Attribute) for guard in event.guards)
        is_new = any(each.attr == "global_step" for found in parts for each in found)
        if waits is None or waits == 1 or is_new or accumulation_guards(usage, event):
            return None
        message = (
            "on_train_batch_end is called for each micro-batch, and Lightning makes a step "
            f"after {waits} of them"
        )
        return CodeFault(event.node, message, PLACES["lightning"])


def _accumulates_unasked(usage: Usage) -> bool:
    """Return whether Accelerator is given an accumulation that no `accumulate` makes use of."""
    if "accumulate" in usage.scopes.callers or "deepspeed" in usage.script.code.lower():
        return False
    made = usage.scopes.callers.get("Accelerator", ())
    given = (keyword(call, "gradient_accumulation_steps") for call in made)
    return any(each is not None and can_exceed_one(usage, each) for each in given)


class AllocationBeforeStep(AllocationRule):
    code = "ADA906"
    summary = "update_and_allocate is called before optimizer.step() of the same iteration"
    why = """The optimizer then moves what was pruned: dropped triplets come back, so the live model
    keeps its rank and the saved adapter is another one."""
    bad = HEAD + LOOP.replace(_STEP + _CALL, _CALL + _STEP)
    hint = PLACES["loop"]

    def check_call(self, usage: Usage, event: Event) -> CodeFault | None:
        hooks = usage.scopes.callers.get("register_step_pre_hook", [])
        given = [leaf for hook in hooks for leaf in usage.origins(keyword(hook, at=0))]
        if event.trace.function in map(usage.scopes.function, given) and event.trace.function:
            message = "update_and_allocate is called in a hook that runs before each step"
            return CodeFault(event.node, message, "pass it to optimizer.register_step_post_hook")
        place = placement(event)
        if place is None or not place.is_before or place.level != "same":
            return None
        message = (
            "update_and_allocate is called before the optimizer makes the step of this iteration"
        )
        return CodeFault(event.node, message, note=(place.step.node, _THE_STEP))


class AllocationAfterZeroGrad(AllocationRule):
    code = "ADA907"
    errors = ("unsupported operand type(s) for *: 'Parameter' and 'NoneType'",)
    summary = "update_and_allocate is called after zero_grad(), when no gradient is left"
    why = """The importance of a triplet is computed from the gradients. PEFT fails on the first
    call without them, or ranks the triplets by nothing if they are set to zero."""
    bad = HEAD + LOOP.replace(_CALL + _DROP, _DROP + _CALL)
    hint = "move zero_grad() after update_and_allocate, or to the beginning of the iteration"

    def check_call(self, usage: Usage, event: Event) -> CodeFault | None:
        place = placement(event)
        if place is None or place.dropped is None:
            return None
        if place.level != "same" and step_counter(usage, event).counts == "epochs":
            return None
        message = "update_and_allocate is called after the gradients are dropped"
        note = (place.dropped.node, "the gradients are dropped here")
        return CodeFault(event.node, message, note=note)


class AllocationInWrongHook(AllocationRule):
    code = "ADA908"
    errors = ("on_step_end ... unsupported operand type(s) for *: 'Parameter' and 'NoneType'",)
    summary = """update_and_allocate is called in a hook without gradients, or before the
    optimizer's step"""
    why = """Trainer calls on_pre_optimizer_step, makes the step, calls on_optimizer_step, drops the
    gradients and calls on_step_end. Only on_optimizer_step has both the gradients and the step.
    Lightning drops the gradients after the next forward, so optimizer_step (after the step) and,
    without accumulation, on_train_batch_end have both."""
    bad = example(CALLBACK.replace("on_optimizer_step", "on_step_end"), _TRAINER)
    good = example(CALLBACK, _TRAINER)
    hint = PLACES["callback"]
    safe_fix = """renames on_step_end to on_optimizer_step, if the method does nothing else and the
    class has no on_optimizer_step"""

    def check_call(self, usage: Usage, event: Event) -> CodeFault | None:
        method = event.trace.function
        framework = usage.framework(method)
        if framework is None or method is None or method.name not in HOOKS[framework]:
            return None
        reason = HOOKS[framework][method.name]
        if usage.calls_of(method) or (placement(event) is not None and reason != NEVER_CALLED):
            return None  # the method makes the step itself, or the script calls it
        message = f"update_and_allocate is called in {method.name}: {reason}"
        remedy = _renamed(usage, method) if framework == "callback" else None
        return CodeFault(event.node, message, hint=PLACES[framework], remedy=remedy)


def _renamed(usage: Usage, method: Function) -> Remedy | None:
    """Return the renaming of `on_step_end`, if the method only allocates."""
    owner = usage.scopes.parents[method]
    if method.name != "on_step_end" or not isinstance(owner, ast.ClassDef):
        return None
    names = usage.scopes.inner[owner].functions
    if "on_optimizer_step" in names or not all(map(_only_allocates, method.body)):
        return None
    start = usage.script.code.index(method.name, usage.script.code_extent(method)[0])
    extent = usage.script.in_text((start, start + len(method.name)))
    return Remedy("Rename the method to on_optimizer_step", Replace(extent, "on_optimizer_step"))


def _only_allocates(node: ast.stmt) -> bool:
    """Return whether a statement allocates, or does nothing that a step later would matter."""
    match node:
        case ast.If():
            return all(map(_only_allocates, (*node.body, *node.orelse)))
        case ast.Expr(value=ast.Call(func=function)):
            return last_name(function) == ALLOCATE
        case ast.Pass() | ast.Expr(value=ast.Constant()) | ast.Assign(targets=[ast.Name(), *_]):
            return True
        case ast.Return(value=None | ast.Name() | ast.Constant()):
            return True
    return False


class AllocationGuardedByItself(AllocationRule):
    code = "ADA909"
    summary = "update_and_allocate is called only if rank_pattern is set, which only the call does"
    why = """rank_pattern is the result of an allocation and None before the first one. The
    condition never holds, so nothing is ever allocated."""
    bad = HEAD + LOOP.replace(
        _CALL, f'    if model.peft_config["default"].rank_pattern is not None:\n    {_CALL}'
    )
    hint = "call it without this condition"

    def check_guard(self, usage: Usage, guard: Guard) -> str | None:
        test = guard.test
        parts = test.values if isinstance(test, ast.BoolOp) else [test]
        is_open = isinstance(test, ast.BoolOp) and isinstance(test.op, ast.Or)
        if is_open or not any(_is_set(usage, part, holds=guard.holds) for part in parts):
            return None
        return f"update_and_allocate waits for {shown(test)}, which only its first call makes true"


def _is_set(usage: Usage, test: ast.expr, *, holds: bool) -> bool:
    match test:
        case ast.Compare(left, [asked], [end]):
            holds = isinstance(end, ast.Constant) and isinstance(
                asked, ast.IsNot if holds else ast.Is
            )
            test = left
    return holds and any(map(_is_pattern, usage.origins(test)))


def _is_pattern(node: ast.expr) -> bool:
    if isinstance(node, ast.Call):  # getattr(config, "rank_pattern", None)
        return any(isinstance(n, ast.Constant) and n.value == "rank_pattern" for n in node.args)
    return last_name(node) == "rank_pattern"


class AllocationOnOneProcess(AllocationRule):
    code = "ADA917"
    summary = "update_and_allocate is called on the main process only"
    why = """Every process holds the factors of its own replica, and nothing sends them to the
    others: the main process drops triplets that the others keep, so the replicas come apart, and
    what is saved is the main one's alone."""
    bad = example(
        LOOP.replace("    model.base", "    if accelerator.is_main_process:\n        model.base"),
        _ACCELERATE,
    ).replace("optimizer =", "accelerator = Accelerator()\noptimizer =")
    hint = "call it on every process; only save and log on the main one"

    def check_call(self, usage: Usage, event: Event) -> CodeFault | None:
        given = event.step
        name = "" if given is None else ast.unparse(given)
        counts = [each for each in event.trace.changes.get(name, []) if each.kind == "count"]
        for guard in counts[0].guards if len(counts) == 1 else ():
            if _on_one_process(guard):
                message = f"`{name}` is raised on one process only, so the schedules differ"
                return CodeFault(event.node, message, note=(guard.test, "the condition"))
        function = usage.scopes.of[event.node].function
        for mark in function.decorator_list if isinstance(function, FUNCTION) else ():
            if last_name(mark) in {"on_main_process", "on_local_main_process"}:
                message = f"update_and_allocate is called in `{getattr(function, 'name', '')}`"
                return CodeFault(event.node, message, note=(mark, "it runs on one process"))
        return super().check_call(usage, event)

    def check_guard(self, usage: Usage, guard: Guard) -> str | None:
        del usage
        is_one = _on_one_process(guard)
        return f"update_and_allocate is called only where {shown(guard.test)}" if is_one else None


def _on_one_process(guard: Guard) -> bool:
    """Return whether a condition holds on the main process only."""
    test, holds = guard.test, guard.holds
    while isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        test, holds = test.operand, not holds
    asks = _MAIN_PROCESS if holds else _OTHER_PROCESS
    return not isinstance(test, ast.BoolOp) and asks.search(ast.unparse(test)) is not None


class AllocationTooRare(AllocationRule):
    code = "ADA926"
    summary = "update_and_allocate is called for some steps of the optimizer only"
    why = """Each call adds the gradients of its step to the averages that choose the triplets, and
    the method itself waits for deltaT. Called more rarely it knows a part of the steps, and may
    miss the one step in which the final ranks are chosen."""
    bad = HEAD + LOOP.replace(_CALL, f"    if step % config.deltaT == 0:\n    {_CALL}")
    hint = "call it after every optimizer.step(); the method itself waits for deltaT"

    def check_call(self, usage: Usage, event: Event) -> CodeFault | None:
        place, method = placement(event), event.trace.function
        framework = usage.framework(method)
        if framework is not None and method is not None and method.name in HOOKS[framework]:
            return None
        if place is not None and place.dropped is not None:
            return None
        waits = _waits(usage, event, place, is_callback=framework == "callback")
        if waits is not None:
            message = f"update_and_allocate is called only where {shown(waits)}"
            return CodeFault(event.node, message, note=(waits, "the condition"))
        is_repeated = bool(event.loops) and event.loops[-1] not in event.trace.runs
        if place is None or place.level != "outside" or not is_repeated:
            return None
        if step_counter(usage, event).counts in {"epochs", "constant"}:
            return None
        message = "update_and_allocate is called outside the loop that makes the steps"
        return CodeFault(event.node, message, note=(place.step.node, _THE_STEP))


def _waits(
    usage: Usage, event: Event, place: Placement | None, *, is_callback: bool
) -> ast.expr | None:
    """Return the condition that lets an allocation wait for several steps."""
    step = place.step if place is not None else None
    known = {ast.dump(guard.test) for guard in step.guards} if step is not None else set()
    waits = step is None or step.accumulations or accumulation_guards(usage, step)
    for guard in accumulation_guards(usage, event):
        nodes = list(usage.mentions(guard.test, ast.AST))
        if (
            not any(isinstance(getattr(n, "op", None), ast.Mod) for n in nodes)
            or ast.dump(guard.test) in known
        ):
            continue
        names = set(map(last_name, nodes))
        texts = {str(n.value) for n in nodes if isinstance(n, ast.Constant)}
        if "accum" in " ".join(names | texts).lower() or "sync_gradients" in names:
            continue
        if not waits or "deltaT" in names or (is_callback and "global_step" in names):
            return guard.test
    return None
