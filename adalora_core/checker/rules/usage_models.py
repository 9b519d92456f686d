"""Find faults around an AdaLoRA model: its loss, its total, its optimizer, a second adapter."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from adalora_core.checker.documents.python.syntax import keyword, last_name
from adalora_core.checker.rules.usage_base import HEAD, LOOP, CodeFault, UsageRule, example
from adalora_core.checker.scripts.events import excludes
from adalora_core.checker.scripts.losses import adds_penalty, doubled_penalties, own_losses
from adalora_core.checker.scripts.step_order import accumulation, batch_size, run_length, unit
from adalora_core.checker.scripts.trainings import (
    late_adapters,
    second_wraps,
    swept_ranks,
    trainings,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from adalora_core.checker.documents.python.script import Call
    from adalora_core.checker.scripts.events import Event
    from adalora_core.checker.scripts.usage import Usage, Wrap


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
    why = """With a larger total_step the run ends before its schedule, so the target rank is not
    reached; with a smaller one the last steps are outside of the schedule."""
    bad = example(
        'arguments = TrainingArguments("out", max_steps=500)\n'
        "Trainer(model=model, args=arguments, callbacks=callbacks).train()\n",
        "from transformers import Trainer, TrainingArguments",
    )
    good = bad.replace("max_steps=500", "max_steps=1000")
    hint = "give total_step the number of steps of the run"

    def check_usage(self, usage: Usage) -> Iterator[CodeFault]:
        """Yield a fault if both numbers are known and differ."""
        lengths = {run_length(usage, training) for training in usage.once(trainings)}
        length = lengths.pop() if len(lengths) == 1 else None
        if length is None or usage.assigns_total:
            return
        found = [(key, usage.value(value)) for key, value in usage.arguments("total_step")]
        if len({total for _, total in found}) != 1:
            return
        for key, total in found:
            if total is not None and abs(total - length) > 1:
                message = f"total_step is {total}, and the script trains {length} steps"
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
            if call in usage.once(_second_adapters):
                continue
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
    why = """A model of adalora_core, or of adalora_core.peft, adds the penalty to outputs.loss in
    training mode. Added once more it has twice the weight of the configuration."""
    bad = (HEAD + LOOP).replace("from peft", "from adalora_core.peft").replace(
        "model(**batch).loss.backward()",
        "(model(**batch).loss + model.orthogonality_penalty()).backward()",
    )  # fmt: skip
    good = (HEAD + LOOP).replace("from peft", "from adalora_core.peft")
    hint = "remove the call; it is for a loss of your own"

    def check_usage(self, usage: Usage) -> Iterator[CodeFault]:
        """Yield a fault for each penalty beside the loss of the outputs."""
        if not _has_a_penalty(usage) or "leave_penalty_out_of_loss" in usage.scopes.callers:
            return
        found = usage.once(trainings)
        for penalty in dict.fromkeys(p for each in found for p in doubled_penalties(usage, each)):
            message = "the penalty is added to outputs.loss, which contains it in training mode"
            yield CodeFault(penalty, message)


_SECOND = 'model.add_adapter("second", config)\n'


class SecondTrainableAdapter(UsageRule):
    code = "ADA925"
    severity = "error"
    summary = "a second trainable adapter is added to an AdaLoRA model of PEFT"
    why = """PEFT trains one AdaLoRA adapter of a model, and raises: `ValueError: AdaLoraModel
    supports only 1 trainable adapter. When using multiple adapters, set inference_mode to True for
    all adapters except the one you want to train.` Models of adalora_core.get_peft_model train
    several."""
    bad = HEAD + _SECOND + LOOP
    good = bad.replace("from peft", "from adalora_core")
    hint = """set inference_mode=True for every adapter but one, or make the model with
    get_peft_model of adalora_core"""

    def check_usage(self, usage: Usage) -> Iterator[CodeFault]:
        """Yield a fault for each further adapter."""
        for call, first in usage.once(_second_adapters).items():
            message = "PEFT trains one AdaLoRA adapter of a model, and the model has one here"
            yield CodeFault(call, message, note=(first, "the first adapter"))


class WeightedAdapter(UsageRule):
    code = "ADA926"
    severity = "error"
    summary = "add_weighted_adapter is called on an AdaLoRA model, which lacks the method"
    why = """Adapters of AdaLoRA keep different triplets, and nothing joins them. PEFT raises:
    `TypeError: AdaLoraModel does not support add_weighted_adapter method.` A model of adalora_core
    raises an AttributeError."""
    bad = HEAD + LOOP + 'model.add_weighted_adapter(["default"], [0.5], "weighted")\n'
    good = HEAD + LOOP + 'model.save_pretrained("adapter")\n'
    hint = "write each adapter as one of LoRA, and join these: adalora export-lora"

    def check_usage(self, usage: Usage) -> Iterator[CodeFault]:
        """Yield a fault for each call on a model that is known."""
        for call in usage.scopes.callers["add_weighted_adapter"]:
            model = call.func.value if isinstance(call.func, ast.Attribute) else None
            if isinstance(model, ast.Attribute) and model.attr == "base_model":
                model = model.value
            wraps = [usage.wrap_of.get(leaf) for leaf in usage.origins(model)]
            if wraps and all(wrap is not None and _configs(usage, wrap) for wrap in wraps):
                yield CodeFault(call, "an AdaLoRA model has no method add_weighted_adapter")


def _second_adapters(usage: Usage) -> dict[ast.Call, ast.Call]:
    """Return the calls that PEFT refuses, each with the call that adds the first adapter."""
    trained = {} if _may_freeze(usage) else _trained_adapters(usage)
    found: dict[ast.Call, ast.Call] = {}
    for second, event in trained.items():
        models = usage.origins(second.model)
        for first, before in trained.items():
            is_same = first is second or _adapter_name(first) == _adapter_name(second)
            if is_same or excludes(before, event):
                continue
            if first.call in models or _adapts_before(usage, first, second):
                found.setdefault(second.call, first.call)
    return found


def _may_freeze(usage: Usage) -> bool:
    """Return whether a script removes adapters, or sets a configuration's mode later."""
    return not _REMOVES.isdisjoint(usage.scopes.callers) or any(
        isinstance(node, ast.Attribute)
        and node.attr == "inference_mode"
        and isinstance(node.ctx, ast.Store)
        for node in usage.scopes.of
    )


_REMOVES = frozenset({"unload", "merge_and_unload", "delete_adapter"})


def _trained_adapters(usage: Usage) -> dict[Wrap, Event]:
    """Return the calls that let PEFT train an adapter for sure."""
    found: dict[Wrap, Event] = {}
    for _, event in usage.events("wrap"):
        wrap = usage.wrap_of.get(event.node)
        package = usage.scopes.full_name(event.call.func).split(".")
        is_ours = package[0] == "adalora_core" and package[1:2] != ["peft"]
        configs = [] if wrap is None or is_ours else _configs(usage, wrap)
        modes = [call.values.get("inference_mode", call.is_open) for call in configs]
        if wrap is not None and modes and all(mode is False for mode in modes):
            found.setdefault(wrap, event)
    return found


def _configs(usage: Usage, wrap: Wrap) -> list[Call]:
    """Return the calls of AdaLoraConfig that make the configuration; none if others may."""
    made = {call.node: call for call in usage.script.calls}
    leaves = usage.origins(wrap.config)
    return [made[leaf] for leaf in leaves if leaf in made] if made.keys() >= {*leaves} else []


def _adapter_name(wrap: Wrap) -> str:
    """Return the code of an adapter's name."""
    if last_name(wrap.call.func) == "add_adapter":
        others = (each for each in wrap.call.args if each is not wrap.config)
        given = keyword(wrap.call, "adapter_name") or next(others, None)
    else:
        given = keyword(wrap.call, "adapter_name", at=2)
    return "'default'" if given is None else ast.unparse(given)


def _adapts_before(usage: Usage, first: Wrap, second: Wrap) -> bool:
    """Return whether a call adapts the same base model before another call does."""
    of, position = usage.scopes.of, usage.scopes.position
    if of[first.call].function is not of[second.call].function:
        return False
    models = {leaf for leaf in usage.origins(second.model) if isinstance(leaf, ast.Call)}
    is_same = not models.isdisjoint(usage.origins(first.model))
    return is_same and position[first.call] < position[second.call]
