"""Find what is not trained: frozen factors, adapters for inference, heads, a head alone."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from adalora_core.checker.documents.python.syntax import Loop, called_name, keyword, last_name, walk
from adalora_core.checker.rules.usage_base import HEAD, LOOP, CodeFault, UsageRule, shown
from adalora_core.checker.rules.usage_calls import is_after_the_wrap
from adalora_core.checker.rules.usage_models import name_of_base
from adalora_core.checker.rules.usage_setup import sets_gradient, takes_e, unfrozen, words_in
from adalora_core.checker.scripts.events import Event, receiver
from adalora_core.checker.scripts.trainings import held_models, trainings
from adalora_core.config.fields.known_modules import modules_of
from adalora_core.config.rules.base import BOTH
from adalora_core.floor.module_selection import heads_of, saved_module_names

if TYPE_CHECKING:
    from adalora_core.checker.documents.python.script import Call
    from adalora_core.checker.scripts.usage import Usage, Wrap

_HEADS = tuple(f"For{of}Classification.from_pretrained" for of in ("Sequence", "Token", "Image"))
_OF_HEAD = re.compile("classif|score|head")
_LABELS = {"num_labels", "id2label"}
_NEW_HEAD = "\nbase = AutoModelForTokenClassification.from_pretrained(name, num_labels=3)\nconfig"
_TRAINED = heads_of("SEQ_CLS")
_ENCODER_DECODERS = {"BartForConditionalGeneration", "T5ForConditionalGeneration"}
"""Architectures whose head for sequences is their `classification_head`."""


class FactorsFrozen(UsageRule):
    code = "ADA932"
    methods = BOTH
    summary = "factors of the adapter are frozen after it was added"
    why = """get_peft_model makes exactly the factors trainable. A loop over all parameters that
    comes later freezes them again: with no lora_E the adapter adds nothing, with none at all
    nothing is trained."""
    bad = HEAD + "for p in model.parameters():\n    p.requires_grad = False\n" + LOOP
    hint = "freeze before get_peft_model, or leave each name with lora_ as it is"

    def check_usage(self, usage: Usage) -> Iterator[CodeFault]:
        for call in usage.scopes.callers.get("prepare_model_for_kbit_training", ()):
            is_peft = usage.scopes.full_name(call.func).startswith("peft.")
            if is_peft and usage.wraps_alone(keyword(call, "model", at=0)):
                yield CodeFault(call, "all parameters are frozen here, after the adapter is added")
        set_true = any(unfrozen(usage, wrap.call) for wrap in usage.wraps)
        for loop in usage.scopes.of:
            if not isinstance(loop, ast.For) or not _runs_over_factors(usage, loop):
                continue
            for statement in loop.body:
                value = sets_gradient(statement)
                words, is_all = words_in(value) if value is not None else (set[str](), False)
                is_off = isinstance(value, ast.Constant) and value.value is False and not set_true
                is_part = "lora_A" in words and not usage.of_lora and not takes_e(words)
                if is_off or (is_all and is_part):
                    kept = "without lora_E" if words else "all of them"
                    yield CodeFault(statement, f"the factors are frozen here, {kept}")


def _runs_over_factors(usage: Usage, loop: ast.For) -> bool:
    match loop.iter:
        case ast.Call(ast.Attribute(model, "parameters" | "named_parameters")):
            is_wrapped = all(usage.wrap_of.get(leaf) is not None for leaf in usage.origins(model))
            is_factors = is_wrapped and usage.is_adalora_model(model)
            return is_factors and is_after_the_wrap(usage, loop.iter)
    return False


class TrainedForInference(UsageRule):
    code = "ADA934"
    summary = """inference_mode is true in a configuration that is trained with, or a loop trains
    on in evaluation mode"""
    why = """PEFT freezes the factors of such an adapter: no parameter has a gradient, so nothing is
    trained, or `loss.backward()` raises. A saved configuration has the setting too. A model that an
    evaluation between two steps has put into evaluation mode has no dropout in the steps after it,
    and cuDNN refuses the backward pass of a recurrent layer."""
    bad = HEAD.replace("init_r", "inference_mode=True,\n    init_r") + LOOP
    hint = "remove inference_mode; set it to False in a configuration that PEFT has saved"

    def check_usage(self, usage: Usage) -> Iterator[CodeFault]:
        for wrap, call in configured(usage):
            key, _ = call.entries.get("inference_mode", (None, None))
            is_reset = "inference_mode" in usage.stored or "setattr" in usage.scopes.callers
            is_on = key is not None and call.values.get("inference_mode") is True
            later = (
                training
                for training in usage.once(trainings)
                if usage.scopes.is_within(wrap.call, training.event.node)
                or not usage.scopes.is_before(training.event.node, wrap.call)
            )
            if key is None or not is_on or is_reset or not any(later):
                continue
            if any(leaf in usage.wrap_of for leaf in usage.origins(wrap.model)):
                continue  # a further adapter, beside the one that is trained
            if not unfrozen(usage, wrap.call, of_factors=True):
                message = "the adapter is made for inference, and trained afterwards"
                yield CodeFault(key, message, note=(wrap.call, "it is added here"))
        for event, step in _left_in_evaluation(usage):
            message = "the model stays in evaluation mode, and the loop goes on training it"
            hint = "call model.train() after the evaluation"
            yield CodeFault(event.node, message, hint, note=(step.node, "the next step"))


def _left_in_evaluation(usage: Usage) -> Iterator[tuple[Event, Event]]:
    """Yield calls of `eval` after which a loop trains on, each with the step of the loop.

    Nothing in that loop calls `train`, and a model with dropout is trained.
    """
    found: dict[ast.AST, tuple[Event, Event]] = {}
    has_dropout = "dropout" in usage.script.code or "CausalLM" not in usage.script.code
    for training in usage.once(trainings) if has_dropout or usage.our_names else ():
        step, modes = training.event, training.event.trace.of("mode")
        for event in modes:
            loops = [a for a, b in zip(event.loops, step.loops, strict=False) if a is b]
            known = {guard.test for guard in step.guards}
            guards = [each.test for each in event.guards if each.test not in known]
            is_asked = all(
                any(isinstance(each.op, ast.Mod) for each in walk(test, ast.BinOp))
                for test in guards
            )
            is_again = any(
                called_name(e.node) == "train" and [*e.loops[: len(loops)]] == loops for e in modes
            )
            is_run = not loops or loops[-1] in step.trace.runs or _is_single(usage, loops[-1])
            is_left = called_name(event.node) == "eval" and is_asked and not (is_again or is_run)
            if is_left and usage.is_adalora_model(receiver(event.call)):
                found.setdefault(event.node, (event, step))
    yield from found.values()


def _is_single(usage: Usage, loop: Loop) -> bool:
    """Return whether a loop may have one round alone: `range(epochs)` of one epoch."""
    calls = [] if isinstance(loop, ast.While) else usage.calls(loop.iter)
    return any(called_name(e) == "range" and usage.value(e.args[-1]) == 1 for e in calls if e.args)


def configured(usage: Usage) -> Iterator[tuple[Wrap, Call]]:
    """Yield each call that adds an adapter, with the call that makes its configuration."""
    made = {call.node: call for call in usage.configurations}
    for wrap in usage.wraps:
        found = [made[leaf] for leaf in usage.calls(wrap.config) if leaf in made]
        if len(found) == 1:
            yield wrap, found[0]


class HeadStaysFrozen(UsageRule):
    code = "ADA935"
    only_with = ("from_pretrained",)
    summary = "a model gets a new head, and the configuration leaves it frozen"
    why = """A head for new labels begins with random weights. PEFT trains it beside the adapter for
    task_type SEQ_CLS and TOKEN_CLS only, under the names classifier and score, or where
    modules_to_save names it: otherwise the adapter learns for a random head, which no saved file
    holds."""
    bad = HEAD.replace("\nconfig", _NEW_HEAD) + LOOP
    good = bad.replace('"CAUSAL_LM"', '"TOKEN_CLS"')
    hint = 'set task_type="SEQ_CLS" (or "TOKEN_CLS"), or modules_to_save=["classifier"]'

    def check_usage(self, usage: Usage) -> Iterator[CodeFault]:
        for wrap, call in configured(usage):
            heads = [self.new_head(usage, each) for each in usage.calls(wrap.model)]
            if None in heads or not heads or len(heads) != len(usage.origins(wrap.model)):
                continue
            made, name = heads[0] or (call.node, "")
            if not _trains(call, name) and not unfrozen(usage, wrap.call):
                message = "the new head of the model stays frozen, at its random weights"
                hint = f'set modules_to_save=["{name}"]' if name not in {"", *_TRAINED} else None
                yield CodeFault(call.node, message, hint, note=(made, "the head is made here"))

    def new_head(self, usage: Usage, call: ast.Call) -> tuple[ast.Call, str] | None:
        """Return the call that makes a new head of a model, and its name, empty: not known."""
        loader = usage.scopes.full_name(call.func)
        if not loader.endswith(_HEADS) or not self.is_new(usage, call):
            return None
        architecture, _ = modules_of(name_of_base(usage, call) or "")
        is_other = architecture in _ENCODER_DECODERS and "ForSequence" in loader
        return call, "classification_head" if is_other else _TRAINED[0] if architecture else ""

    def is_new(self, usage: Usage, call: ast.Call) -> bool:
        """Return whether the head of a model that is loaded is for new labels."""
        return not usage.keywords(call).keys().isdisjoint(_LABELS)


def _trains(call: Call, head: str) -> bool:
    """Return whether a configuration may train a head; PEFT compares the ends of names."""
    saved, task = call.values.get("modules_to_save") or [], call.values.get("task_type")
    names = saved_module_names(saved if isinstance(saved, list) else [saved], task)
    targets = str(call.values.get("target_modules"))
    if call.is_open or not call.deferred.isdisjoint(_DECIDING) or _OF_HEAD.search(targets):
        return True
    parts = [*(_TRAINED if head in _TRAINED else [head]), "dense", "out_proj"]
    is_named = any(part.endswith(str(name).rpartition(".")[2]) for name in names for part in parts)
    return (is_named or head in targets) if head else bool(names)


_DECIDING = {"task_type", "modules_to_save", "target_modules"}


class HeadTrainedAlone(UsageRule):
    code = "ADA936"
    methods = BOTH
    summary = "the optimizer is given a part of the model, without the adapter or a new layer"
    why = """The factors of the adapter are in no group of the optimizer, so they keep their first
    values, and the triplets have no importance. A layer that a class of the script makes beside
    the adapted model stays at its random weights if the optimizer does not hold it."""
    bad = HEAD.replace("model.parameters", "model.classifier.parameters") + LOOP
    hint = "give the optimizer model.parameters(), or those that require a gradient"

    def check_usage(self, usage: Usage) -> Iterator[CodeFault]:
        for event in usage.events("optimizer"):
            held = held_models(usage, event.call)
            if held and all(_is_part(usage, model) for model in held):
                message = f"the optimizer holds the parameters of {shown(held[0])} alone"
                yield CodeFault(event.node, message)
        if "add_param_group" not in usage.scopes.callers:
            yield from _without_new_layer(usage)


def _without_new_layer(usage: Usage) -> Iterator[CodeFault]:
    optimizers = {e.node: held_models(usage, e.call) for e in usage.events("optimizer")}
    taken = {last_name(model) for held in optimizers.values() for model in held}
    for node, held in optimizers.items():
        left = _new_layers(usage, held[0]) if len(held) == 1 else []
        if left and taken.isdisjoint(left):
            message = f"the optimizer holds {shown(held[0])} alone, without `{left[0]}`"
            yield CodeFault(node, message, f"add the parameters of `{left[0]}`")


def _new_layers(usage: Usage, model: ast.expr) -> list[str]:
    """Return the layers that the class around an adapted model makes beside it."""
    owner = usage.class_of_value(model.value) if isinstance(model, ast.Attribute) else None
    if owner is None or not usage.is_adalora_model(model):
        return []
    return [
        name
        for (of, name), bindings in usage.scopes.attributes.items()
        for value in (each.value for each in bindings if of == owner.name)
        if value is not None and "Linear" in map(called_name, walk(value, ast.Call))
    ]


def _is_part(usage: Usage, model: ast.expr) -> bool:
    if not isinstance(model, ast.Attribute) or model.attr in {"model", "base_model", "module"}:
        return False
    return bool(usage.wraps_alone(model.value)) and "lora" not in ast.unparse(model)
