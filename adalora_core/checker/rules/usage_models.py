"""Find faults around an AdaLoRA model: its loss, its total, its optimizer, a second adapter."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, TypeGuard

from adalora_core.checker.documents.python.syntax import keyword, last_name, walk
from adalora_core.checker.rules.usage_base import HEAD, LOOP, CodeFault, UsageRule, example
from adalora_core.checker.scripts.losses import adds_penalty, doubled_penalties, own_losses
from adalora_core.checker.scripts.step_order import (
    accumulation,
    batch_size,
    epochs_of_run,
    epochs_of_total,
    run_length,
    unit,
)
from adalora_core.checker.scripts.trainings import (
    late_adapters,
    second_wraps,
    swept_ranks,
    trainings,
)
from adalora_core.config.rules.targets import lacking, usual_hint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from adalora_core.checker.documents.python.script import Call
    from adalora_core.checker.scripts.trainings import Training
    from adalora_core.checker.scripts.usage import Usage


class LossWithoutPenalty(UsageRule):
    code = "ADA910"
    summary = "a script trains on a loss of its own and never adds the orthogonality penalty"
    why = """PEFT adds the penalty to outputs.loss only. The scores compare triplets as if A and B
    were orthogonal, which nothing holds them to if the loss is computed elsewhere."""
    bad = HEAD + LOOP.replace(
        "    model(**batch).loss.backward()\n",
        "    loss = cross_entropy(model(**batch).logits, batch.labels)\n    loss.backward()\n",
    )
    hint = """pass labels and use outputs.loss, add the penalty to the loss (adalora_core:
    model.orthogonality_penalty()), or set orth_reg_weight to 0"""

    def check_usage(self, usage: Usage) -> Iterator[CodeFault]:
        """Yield a fault for each loss that is computed in the script."""
        if not _has_a_penalty(usage) or adds_penalty(usage):
            return
        has_callback = any(name.endswith("AdaLoraCallback") for name in usage.our_names)
        losses = (
            loss
            for training in usage.once(trainings)
            if not (training.trainers and has_callback)  # which adds the penalty
            for loss in own_losses(usage, training)
        )
        for loss in dict.fromkeys(losses):
            yield CodeFault(
                loss,
                "the loss is computed in the script, so it lacks the orthogonality penalty "
                f"that {'a model' if usage.our_names else 'PEFT'} adds to outputs.loss",
                hint=_OUR_HINT if usage.our_names else None,
            )


_OUR_HINT = (
    "add model.orthogonality_penalty() to the loss, use outputs.loss, or set orth_reg_weight to 0"
)


def _has_a_penalty(usage: Usage) -> bool:
    """Return whether the weight of the penalty is known to be above 0."""
    for call in usage.script.calls:
        given = call.entries.get("orth_reg_weight")
        if given is None:
            return not call.is_open or bool(call.node.args)
        weight = call.values.get("orth_reg_weight")
        if isinstance(weight, int | float) and weight > 0:
            return True
    return False


class TotalStepCountsSamples(UsageRule):
    code = "ADA911"
    summary = "total_step is computed from samples or micro-batches, not from optimizer steps"
    why = """The schedule is then longer than the run by the batch size or the accumulation:
    budgeting ends late or never, and the final phase never comes."""
    bad = HEAD.replace("total_step=1000", "total_step=len(train_dataset) * 3") + LOOP
    good = HEAD.replace("total_step=1000", "total_step=len(train_loader) * 3") + LOOP
    hint = "give the number of optimizer steps: math.ceil(len(loader) / accumulation) * epochs"

    def check_usage(self, usage: Usage) -> Iterator[CodeFault]:
        """Yield a fault for each total of another unit."""
        if usage.assigns_total:
            return
        for key, value in usage.arguments("total_step"):
            counted = unit(usage, value)
            waits = usage.once(accumulation)
            text = ast.unparse(value)[:60]
            if counted == "samples" and not (batch_size(usage) == 1 and waits == 1):
                message = f"total_step is `{text}`: a number of samples, not of optimizer steps"
            elif counted == "batches" and waits is not None and waits > 1:
                message = (
                    f"total_step is `{text}`: a number of micro-batches, {waits} of which make "
                    "one optimizer step"
                )
            else:
                continue
            yield CodeFault(key, message)


class TotalStepContradictsMaxSteps(UsageRule):
    code = "ADA912"
    summary = "total_step differs from the number of steps that the script trains"
    why = """With a larger total_step, or one of more epochs, the run ends before its schedule, so
    the target rank is not reached; with a smaller one the last steps are outside of it."""
    bad = example(
        'arguments = TrainingArguments("out", max_steps=500)\n'
        "Trainer(model=model, args=arguments, callbacks=callbacks).train()\n",
        "from transformers import Trainer, TrainingArguments",
    )
    good = bad.replace("max_steps=500", "max_steps=1000")
    hint = "give total_step the number of steps of the run"

    def check_usage(self, usage: Usage) -> Iterator[CodeFault]:
        """Yield a fault if both numbers, of steps or of epochs, are known and differ."""
        given = [] if usage.assigns_total else list(usage.arguments("total_step"))
        steps = [(key, usage.value(value)) for key, value in given]
        yield from _contradictions(usage, steps, run_length, "steps", 1)
        is_counted = all(unit(usage, value) in {"batches", "steps"} for _, value in given)
        epochs = [(key, epochs_of_total(usage, value)) for key, value in given if is_counted]
        yield from _contradictions(usage, epochs, epochs_of_run, "epochs", 0)


def _contradictions(
    usage: Usage,
    totals: list[tuple[ast.AST, int | None]],
    read: Callable[[Usage, Training], int | None],
    counted: str,
    most: int,
) -> Iterator[CodeFault]:
    """Yield a fault for each total that is further from what the script trains than allowed."""
    trained = {read(usage, training) for training in usage.once(trainings)}
    number = trained.pop() if len(trained) == 1 else None
    if number is None or len({total for _, total in totals}) != 1:
        return
    for key, total in totals:
        if total is not None and abs(total - number) > most:
            message = f"total_step is {total} {counted}, and the script trains {number}"
            yield CodeFault(key, message)


class OptimizerBeforeAdapter(UsageRule):
    code = "ADA913"
    summary = "the optimizer is made from the base model's parameters, before the adapter is added"
    why = """The optimizer holds the frozen parameters and none of the adapter, so nothing is
    learned: the factors keep their first values."""
    good = HEAD.replace("\nconfig", "\nbase = load_model()\nconfig") + LOOP
    bad = good.replace("optimizer = AdamW(model.parameters())\n", "").replace(
        "load_model()\n", "load_model()\noptimizer = AdamW(base.parameters())\n"
    )
    hint = "make the optimizer from model.parameters() after get_peft_model"

    def check_usage(self, usage: Usage) -> Iterator[CodeFault]:
        """Yield a fault for each such optimizer."""
        for optimizer, wrap in usage.once(late_adapters).items():
            message = (
                "the optimizer is given the parameters of the base model, before the adapter is "
                "added"
            )
            yield CodeFault(optimizer, message, note=(wrap, "the adapter is added here"))


class WrappedTwice(UsageRule):
    code = "ADA914"
    summary = "a model that is wrapped already is wrapped again"
    why = """get_peft_model changes the layers of the model that it is given. A second call adapts
    the layers inside the first adapter, or trains beside an adapter that it neither saves nor
    prunes."""
    bad = HEAD.replace("optimizer =", "model = get_peft_model(model, config)\noptimizer =") + LOOP
    hint = "load the base model again, or call model.unload() before"

    def check_usage(self, usage: Usage) -> Iterator[CodeFault]:
        """Yield a fault for each second call."""
        for call, first in second_wraps(usage):
            note = (first, "the first adapter") if first is not call else None
            yield CodeFault(
                call, "the model that is wrapped here has an adapter already", note=note
            )


class RanksWithoutAllocation(UsageRule):
    code = "ADA915"
    summary = "target_r is varied over runs that never allocate"
    comes_with = ("ADA901",)
    why = """Without update_and_allocate every run trains init_r triplets in each matrix, so the
    runs that are compared are the same run."""
    bad = """\
from peft import AdaLoraConfig, get_peft_model
from transformers import Trainer

for rank in (2, 4, 8):
    config = AdaLoraConfig(
        target_modules=["query"], init_r=12, target_r=rank, tinit=10, tfinal=50, total_step=200
    )
    Trainer(model=get_peft_model(load_model(), config), train_dataset=rows).train()
"""
    hint = "call update_and_allocate in each run, or vary init_r"

    def check_usage(self, usage: Usage) -> Iterator[CodeFault]:
        """Yield a fault for each varied rank."""
        found = usage.once(trainings)
        if not found or any(training.allocates is not False for training in found):
            return
        for value in swept_ranks(usage):
            parent = usage.scopes.parents.get(value)
            yield CodeFault(
                parent if isinstance(parent, ast.keyword) else value,
                f"target_r is varied (`{ast.unparse(value)[:60]}`), and nothing allocates: every "
                "run trains init_r triplets",
            )


class PenaltyAddedTwice(UsageRule):
    code = "ADA916"
    summary = "a script adds the orthogonality penalty to outputs.loss, which contains it"
    why = """The model adds the penalty, with orth_reg_weight, to outputs.loss in training mode, and
    so does PEFT's where task_type is set. A script that adds one of its own trains with both."""
    bad = (HEAD + LOOP).replace("from peft", "from adalora_core.peft").replace(
        "model(**batch).loss.backward()",
        "(model(**batch).loss + model.orthogonality_penalty()).backward()",
    )  # fmt: skip
    good = (HEAD + LOOP).replace("from peft", "from adalora_core.peft")
    hint = "remove the term, which is for a loss of your own, or set orth_reg_weight to 0"

    def check_usage(self, usage: Usage) -> Iterator[CodeFault]:
        """Yield a fault for each penalty beside the loss of the outputs."""
        is_bare = not usage.our_names and not all(map(_has_a_task, usage.script.calls))
        if is_bare or "leave_penalty_out_of_loss" in usage.scopes.callers:
            return
        is_weighted = _has_a_penalty(usage)
        found = [each for made in usage.once(trainings) for each in doubled_penalties(usage, made)]
        for penalty in dict.fromkeys(p for p, is_alike in found if is_weighted or is_alike):
            message = "the penalty is added to outputs.loss, which contains it in training mode"
            yield CodeFault(penalty, message)


def _has_a_task(call: Call) -> bool:
    """Return whether PEFT's model has a forward of its own, which adds the penalty."""
    return call.values.get("task_type") is not None


class EpochIsCut(UsageRule):
    code = "ADA922"
    summary = "total_step counts whole epochs, and the loop leaves them early"
    why = """The schedule is longer than the run: the budget has not reached its target, or has not
    begun to fall, when the training ends."""
    bad = HEAD.replace("total_step=1000", "total_step=3 * len(loader)") + (
        "step = 0\nfor epoch in range(3):\n    for i, batch in enumerate(loader):\n"
        "        if i == 1000:\n            break\n"
        "        model(**batch).loss.backward()\n        optimizer.step()\n"
        "        model.base_model.update_and_allocate(step)\n        optimizer.zero_grad()\n"
        "        step += 1\n"
    )
    good = bad.replace("3 * len(loader)", "3 * 1000")
    hint = "count the batches that are trained: epochs * the limit of the loop"

    def check_usage(self, usage: Usage) -> Iterator[CodeFault]:
        """Yield a fault for each total of whole epochs."""
        if usage.assigns_total:
            return
        loops = dict.fromkeys(loop for _, e in usage.events("step") for loop in e.loops)
        for key, value in usage.arguments("total_step"):
            nodes = list(usage.mentions(value))
            lengths = [n for n in nodes if isinstance(n, ast.Call) and last_name(n.func) == "len"]
            measured = {ast.unparse(each.args[0]) for each in lengths if each.args}
            for loop in loops if measured else ():
                cut = _cut(usage, loop, nodes, measured)
                if cut is not None:
                    message = f"total_step is `{ast.unparse(value)[:60]}`, and epochs end early"
                    yield CodeFault(key, message, note=(cut, "the loop is left here"))
                    break


def _cut(usage: Usage, loop: ast.AST, total: list[ast.AST], measured: set[str]) -> ast.AST | None:
    """Return what leaves a loop over a loader, whose length is in a total, after some batches."""
    over = loop.iter if isinstance(loop, ast.For) else None
    if over is None or not isinstance(loop, ast.For):
        return None
    index, limited = None, None
    while isinstance(over, ast.Call) and over.args and last_name(over.func) in _PASSES:
        if last_name(over.func) == "enumerate" and isinstance(loop.target, ast.Tuple):
            index = last_name(loop.target.elts[0])
        if last_name(over.func) == "islice" and len(over.args) > 1:
            limited = over.args[-1]
        over = over.args[0]
    if ast.unparse(over) not in measured:
        return None
    words, numbers = _names(total) - {index}, {usage.value(n) for n in total if _is_number(n)}
    if limited is not None and words.isdisjoint(_names(list(walk(limited)))):
        return limited
    for test in _exits(loop.body):
        if not isinstance(test, ast.Compare):
            continue  # as of a limit that may not be set
        bound, names = usage.value(test.comparators[0]), _names(list(walk(test)))
        is_known = bound is not None and bound > 1 and bound not in numbers
        is_counted = index in names or (is_known and _counts_batches(usage, test.left, loop))
        if is_counted and names.isdisjoint(words):
            return test
    return None


def _counts_batches(usage: Usage, name: ast.expr, loop: ast.For) -> bool:
    """Return whether a loop raises a number in each round, or each time a step is due."""
    for each in usage.scopes.bindings(name):
        block = usage.scopes.parents[each.node] if each.kind == "added" else None
        is_due = isinstance(block, ast.If) and any(isinstance(n, ast.Mod) for n in walk(block.test))
        if block is loop or is_due:
            return True
    return False


_PASSES = frozenset({"enumerate", "tqdm", "islice"})
"""Functions that give the batches of a loader on."""


def _is_number(node: ast.AST) -> TypeGuard[ast.Constant]:
    return isinstance(node, ast.Constant) and isinstance(node.value, int)


def _exits(body: list[ast.stmt]) -> Iterator[ast.expr]:
    """Yield the conditions under which a block leaves the loop around it."""
    for each in body:
        if isinstance(each, ast.If):
            if isinstance(each.body[-1], ast.Break | ast.Return):
                yield each.test
            yield from _exits([*each.body, *each.orelse])


def _names(nodes: list[ast.AST]) -> set[str]:
    """Return the names of values: `a.limit` is "limit"."""
    owners = {id(node.value) for node in nodes if isinstance(node, ast.Attribute)}
    named = (node for node in nodes if isinstance(node, ast.Name | ast.Attribute))
    return {last_name(node) for node in named if id(node) not in owners}


class TargetsOfAnotherBase(UsageRule):
    code = "ADA921"
    errors = ("Target modules ... not found in the base model",)
    severity = "error"
    summary = "the base model that a script loads has none of the targets"
    why = """Names of modules differ between architectures. PEFT raises a ValueError when the
    adapter is added: `Target modules {'q_proj', 'v_proj'} not found in the base model.` Known are
    names of published models."""
    bad = (
        HEAD.replace("\nconfig", '\nbase = AutoModelForCausalLM.from_pretrained("gpt2")\nconfig')
        + LOOP
    )
    good = bad.replace('"q_proj", "v_proj"', '"c_attn"')
    hint = "name linear layers of the base model"

    def check_usage(self, usage: Usage) -> Iterator[CodeFault]:
        """Yield a fault for each configuration that is given to such a model."""
        for wrap in usage.wraps:
            made = usage.calls(wrap.config)
            bases = {_name_of_base(usage, call) for call in usage.calls(wrap.model)}
            base = bases.pop() if len(bases) == 1 else None
            for call in usage.script.calls if base is not None else ():
                key, _ = call.entries.get("target_modules", (None, None))
                names = call.values.get("target_modules")
                if key is None or call.node not in made or not isinstance(names, list):
                    continue
                for message, usual in lacking(base or "", [n for n in names if type(n) is str]):
                    yield CodeFault(key, message, usual_hint(usual))


def _name_of_base(usage: Usage, call: ast.Call) -> str | None:
    if not usage.scopes.full_name(call.func).endswith(".from_pretrained"):
        return None
    given = keyword(call, "pretrained_model_name_or_path", at=0)
    found = {usage.script.values.of(leaf) for leaf in usage.origins(given)}
    name = found.pop() if len(found) == 1 else None
    return name if isinstance(name, str) else None
