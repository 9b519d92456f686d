"""Find faults around an AdaLoRA model: its loss, its optimizer, a second adapter."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import TYPE_CHECKING

from adalora_core.checker.documents.python.syntax import called_name, keyword, last_name, only
from adalora_core.checker.rules.usage_base import HEAD, LOOP, CodeFault, UsageRule, shown
from adalora_core.checker.scripts.losses import adds_penalty, doubled_penalties, own_losses
from adalora_core.checker.scripts.trainings import (
    late_adapters,
    second_wraps,
    swept_ranks,
    trainings,
)
from adalora_core.config.fields.known_modules import linear_layers_of
from adalora_core.config.rules.base import BOTH
from adalora_core.config.rules.targets import lacking, usual_hint

if TYPE_CHECKING:
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
        if not _has_a_penalty(usage) or adds_penalty(usage):
            return
        has_callback = any(name.endswith("AdaLoraCallback") for name in usage.our_names)
        losses = (
            loss
            for training in usage.once(trainings)
            if not (training.trainers and has_callback)  # which adds the penalty
            for loss in own_losses(usage, training)
        )
        if not has_callback:
            yield from _smoothed(usage)
        message = (
            "the loss is computed in the script, so it lacks the orthogonality penalty "
            f"that {'a model' if usage.our_names else 'PEFT'} adds to outputs.loss"
        )
        found = dict.fromkeys(losses)
        for loss in found:
            yield CodeFault(loss, message, _OUR_HINT if usage.our_names else None)
        if not found:
            yield from _never_added(usage)


def _never_added(usage: Usage) -> Iterator[CodeFault]:
    """Yield an information for each configuration with which PEFT's own forward adds nothing."""
    for wrap in usage.wraps if usage.once(trainings) and not usage.our_names else ():
        made = usage.calls(wrap.config) if called_name(wrap.call) == "get_peft_model" else []
        for call in usage.script.calls:
            if call.node in made and not call.is_open and "task_type" not in call.entries:
                message = "without task_type PEFT's forward never adds the orthogonality penalty"
                hint = "set task_type, or orth_reg_weight to 0"
                yield CodeFault(call.node, message, hint, severity="info")


def _smoothed(usage: Usage) -> Iterator[CodeFault]:
    """Yield a fault for label smoothing, for which Trainer computes the loss without a model's."""
    for call in usage.scopes.calls if any(t.trainers for t in usage.once(trainings)) else ():
        given = keyword(call, "label_smoothing_factor")
        factor = None if given is None else usage.script.values.of(given)
        if given is not None and type(factor) is float and factor > 0:
            message = "with label smoothing Trainer computes the loss, without PEFT's penalty"
            yield CodeFault(given, message, "leave label_smoothing_factor out, or add the penalty")


_OUR_HINT = (
    "add model.orthogonality_penalty() to the loss, use outputs.loss, or set orth_reg_weight to 0"
)


def _has_a_penalty(usage: Usage) -> bool:
    """Return whether the weight of the penalty is known to be above 0."""
    for call in usage.script.calls:
        if "orth_reg_weight" not in call.entries:
            return not call.is_open or bool(call.node.args)
        weight = call.values.get("orth_reg_weight")
        if isinstance(weight, int | float) and weight > 0:
            return True
    return False


class OptimizerBeforeAdapter(UsageRule):
    code = "ADA913"
    methods = BOTH
    summary = "the optimizer is made from the base model's parameters, before the adapter is added"
    why = """The optimizer holds the frozen parameters and none of the adapter, so nothing is
    learned: the factors keep their first values."""
    good = HEAD.replace("\nconfig", "\nbase = load_model()\nconfig") + LOOP
    bad = good.replace("optimizer = AdamW(model.parameters())\n", "").replace(
        "load_model()\n", "load_model()\noptimizer = AdamW(base.parameters())\n"
    )
    hint = "make the optimizer from model.parameters() after get_peft_model"

    def check_usage(self, usage: Usage) -> Iterator[CodeFault]:
        for optimizer, wrap in usage.once(late_adapters).items():
            message = "the optimizer is given the parameters of the base model, before the adapter "
            note = (wrap, "the adapter is added here")
            yield CodeFault(optimizer, f"{message}is added", note=note)


class WrappedTwice(UsageRule):
    code = "ADA914"
    methods = BOTH
    summary = "a model that is wrapped already is wrapped again, or used as if it were not"
    why = """get_peft_model changes the layers of the model that it is given. A second call adapts
    the layers inside the first adapter, or trains beside an adapter that it neither saves nor
    prunes. A teacher that is wrapped as its own student is that student."""
    bad = HEAD.replace("optimizer =", "model = get_peft_model(model, config)\noptimizer =") + LOOP
    hint = "load the base model again, or call model.unload() before"

    def check_usage(self, usage: Usage) -> Iterator[CodeFault]:
        for call, first in second_wraps(usage):
            note = (first, "the first adapter") if first is not call else None
            message = "the model that is wrapped here has an adapter already"
            yield CodeFault(call, message, note=note)
        for call, wrap in _used_unwrapped(usage):
            message = f"{shown(call.func)} is called beside the wrapped model, and has its adapter"
            hint = "load the other model again, or call it in `with model.disable_adapter():`"
            yield CodeFault(call, message, hint, note=(wrap, "the adapter is added here"))


def _used_unwrapped(usage: Usage) -> Iterator[tuple[ast.Call, ast.Call]]:
    """Yield calls of a model by the name that it had before, each with what wrapped it.

    The loop calls the wrapped model too, and the script never switches an adapter off.
    """
    scopes = usage.scopes
    is_switched = not {"disable_adapter", "disable_adapter_layers"}.isdisjoint(scopes.callers)
    for wrap in usage.wraps if not is_switched else ():
        made, model = scopes.parents[wrap.call], wrap.model
        new = last_name(made.targets[0]) if isinstance(made, ast.Assign) else ""
        if called_name(wrap.call) != "get_peft_model" or not isinstance(model, ast.Name):
            continue
        for call in scopes.callers.get(model.id, ()) if new != model.id else ():
            loops = {e for e in scopes.above(call) if isinstance(e, ast.For | ast.While)}
            is_beside = any(loops & scopes.above(each) for each in scopes.callers.get(new, ()))
            is_beside &= isinstance(call.func, ast.Name) and scopes.is_before(wrap.call, call)
            if is_beside and usage.origins(call.func) == usage.origins(model):
                yield call, wrap.call


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
        task_type="SEQ_CLS", target_modules=["query"], target_r=rank, tfinal=50, total_step=200
    )
    Trainer(model=get_peft_model(load_model(), config), train_dataset=rows).train()
"""
    hint = "call update_and_allocate in each run, or vary init_r"

    def check_usage(self, usage: Usage) -> Iterator[CodeFault]:
        found = usage.once(trainings)
        if (
            not found
            or usage.is_called_for
            or any(training.allocates is not False for training in found)
        ):
            return
        for value in swept_ranks(usage):
            parent = usage.scopes.parents.get(value)
            node = parent if isinstance(parent, ast.keyword) else value
            message = (
                f"target_r is varied ({shown(value)}), and nothing allocates: every run trains "
            )
            yield CodeFault(node, f"{message}init_r triplets")


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
        tasks = [call.values.get("task_type") for call in usage.script.calls]
        is_bare = not usage.our_names and None in tasks  # PEFT's own forward adds the penalty
        if is_bare or "leave_penalty_out_of_loss" in usage.scopes.callers:
            return
        is_weighted = _has_a_penalty(usage)
        found = [each for made in usage.once(trainings) for each in doubled_penalties(usage, made)]
        for penalty in dict.fromkeys(p for p, is_alike in found if is_weighted or is_alike):
            message = "the penalty is added to outputs.loss, which contains it in training mode"
            yield CodeFault(penalty, message)


class TargetsOfAnotherBase(UsageRule):
    code = "ADA921"
    methods = BOTH
    errors = ("Target modules ... not found in the base model",)
    severity = "error"
    summary = "the base model that a script loads has none of the targets"
    why = """Names of modules differ between architectures. PEFT raises a ValueError when the
    adapter is added: `Target modules {'q_proj', 'v_proj'} not found in the base model.` Known are
    names of published models."""
    bad = HEAD.replace(
        "\nconfig", '\nbase = AutoModelForCausalLM.from_pretrained("gpt2")\nconfig'
    ) + LOOP  # fmt: skip
    good = bad.replace('"q_proj", "v_proj"', '"c_attn"')
    hint = "name linear layers of the base model"

    def check_usage(self, usage: Usage) -> Iterator[CodeFault]:
        for wrap in usage.wraps:
            made = usage.calls(wrap.config)
            base = only(name_of_base(usage, each) for each in usage.origins(wrap.model))
            for call in usage.configurations if base is not None else ():
                key, _ = call.entries.get("target_modules", (None, None))
                names = call.values.get("target_modules")
                if key is None or call.node not in made or not isinstance(names, list):
                    continue
                for message, usual in lacking(base or "", [n for n in names if type(n) is str]):
                    yield CodeFault(key, message, usual_hint(usual))


def name_of_base(usage: Usage, model: ast.expr) -> str | None:
    """Return the name of the published model, or of the class, that a value is loaded from."""
    given: ast.expr | None = model  # a trainer is given the name itself
    if isinstance(model, ast.Call):
        if not usage.scopes.full_name(model.func).endswith(".from_pretrained"):
            return None
        given = keyword(model, "pretrained_model_name_or_path", at=0)
    leaves = usage.origins(given)
    held = [call for each in leaves for call in usage.calls(getattr(each, "value", None))]
    # Not the default of an option, which a command line may replace.
    is_known = not any(called_name(call).startswith("parse_") for call in held)
    name = only(map(usage.script.values.of, leaves)) if is_known else None
    if isinstance(name, str) and linear_layers_of(name) is not None:
        return name
    made = usage.scopes.full_name(model.func) if isinstance(model, ast.Call) else ""
    return made.removesuffix(".from_pretrained").rpartition(".")[2] or None
