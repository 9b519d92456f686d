"""Find what reaches the wrong object, or twice: allocations, trainers, saves."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import TYPE_CHECKING

from adalora_core.checker.documents.python.syntax import called_name, dotted, keyword, last_name
from adalora_core.checker.rules.usage_base import (
    CALLBACK,
    EPOCHS,
    HEAD,
    LOOP,
    AllocationRule,
    CodeFault,
    UsageRule,
    example,
    shown,
)
from adalora_core.checker.rules.usage_setup import takes_e, words_in
from adalora_core.checker.scripts.events import Event, Guard, receiver, trainer_calls
from adalora_core.checker.scripts.frameworks import ALLOCATE, WRAPPERS
from adalora_core.checker.scripts.trainings import UNLOADS, held_models, models_of_trainer
from adalora_core.config.rules.base import BOTH

if TYPE_CHECKING:
    from adalora_core.checker.scripts.usage import Usage

_PARALLEL = frozenset({"DDP", "DistributedDataParallel", "DataParallel"})
_BASE = "\nbase = AutoModelForCausalLM.from_pretrained(name)\nconfig"
_LOADED = HEAD.replace("\nconfig", _BASE)


class AllocationOnAnotherObject(AllocationRule):
    code = "ADA929"
    errors = ("'DistributedDataParallel' object has no attribute 'base_model'",)
    severity = "error"
    summary = "update_and_allocate is called on an object that does not have it"
    why = """The method is that of the AdaLoRA model: model.base_model, and the PEFT model hands it
    on. The base model does not have it, also when the adapter is inside of it, and neither has a
    wrapper for parallel training: an AttributeError at the first step."""
    bad = _LOADED + LOOP.replace("model.base_model.update", "base.update")
    good = _LOADED + LOOP
    hint = "call model.base_model.update_and_allocate(step) on what get_peft_model returned"

    def check_call(self, usage: Usage, event: Event) -> CodeFault | None:
        given = receiver(event.call)
        if not isinstance(event.call.func, ast.Attribute) or usage.our_names:
            return None
        if any(guard.holds and _fails(usage, guard.test) for guard in event.guards):
            return None  # rule ADA941 reports that it is never called
        if _is_inside(usage.script.values.source(given) or given) or _is_base(
            usage, given, by_trainers=True
        ):
            is_given = all(last_name(wrap.call.func) not in WRAPPERS for wrap in usage.wraps)
            hint = "call it on the model that the trainer gives to its callbacks"
            message = f"{shown(given)} is the base model, without {ALLOCATE}"
            return CodeFault(event.node, message, hint if is_given else None)
        if (wrapper := _wrapper(usage, given)) is not None:
            inner = ast.unparse(given).removesuffix(".base_model")
            message = f"`{inner}` is a wrapper without {ALLOCATE}"
            hint = f"call {inner}.module.base_model.update_and_allocate(step)"
            return CodeFault(event.node, message, hint, note=(wrapper, "the wrapper"))
        return None


def _is_inside(node: ast.expr) -> bool:
    """Return whether an expression reads the base model out of an AdaLoRA model."""
    return ast.unparse(node).endswith((".base_model.model", ".get_base_model()"))


def _is_base(usage: Usage, given: ast.expr, *, by_trainers: bool = False) -> bool:
    """Return whether a value is a loaded model that `get_peft_model` was given, or a trainer."""
    wraps = [w for w in usage.wraps if w.is_adalora and not w.is_injected]
    wraps = [w for w in wraps if by_trainers or last_name(w.call.func) in WRAPPERS]
    loaded = {leaf for wrap in wraps for leaf in usage.calls(wrap.model)} - usage.wrap_of.keys()
    leaves = usage.origins(given)
    names = [usage.scopes.full_name(leaf.func) for leaf in loaded.intersection(leaves)]
    is_base = all(name.endswith(".from_pretrained") and "Peft" not in name for name in names)
    return is_base and bool(leaves) and loaded.issuperset(leaves)


def _wrapper(usage: Usage, given: ast.expr) -> ast.AST | None:
    """Return the call that wraps an object for parallel training, if that is all it can be."""
    while isinstance(given, ast.Attribute) and given.attr == "base_model":
        given = given.value
    found = _bound(usage, given, 3)
    names = set(map(called_name, found))
    return found[0] if names and names <= _PARALLEL else None


def _bound(usage: Usage, node: ast.expr, depth: int) -> list[ast.expr | None]:
    """Return what a name or an attribute of the object itself was given last, as it is written."""
    if isinstance(node, ast.Attribute):
        values = [each for each in usage.bindings_of(node) if each.kind == "value"]
        last = max(values, key=lambda each: usage.scopes.position[each.node], default=None)
        return [] if last is None else [last.value]
    found: list[ast.expr | None] = []
    if not isinstance(node, ast.Name):
        return found
    for each in usage.reaching(node):
        if each.kind != "parameter":
            found.append(each.value)
        for value in usage.given(each.node, node.id) if each.kind == "parameter" and depth else ():
            found += _bound(usage, value, depth - 1) or [value]
    return found


class TrainerGivenBase(UsageRule):
    code = "ADA930"
    severity = "error"
    summary = "the trainer is given the base model, not what get_peft_model returned"
    why = """The adapter is inside of the base model, so it trains, but this object has no
    update_and_allocate: the callback raises an AttributeError, and what is saved is the base."""
    good = example(CALLBACK, "from transformers import Trainer, TrainerCallback").replace(
        "\nconfig", _BASE
    )
    bad = good.replace("Trainer(model=model", "Trainer(model=base")
    hint = "give the trainer the model that get_peft_model returned"

    def check_usage(self, usage: Usage) -> Iterator[CodeFault]:
        found: dict[ast.expr, None] = {}
        for event in usage.events("train") if not usage.our_names else ():
            wraps = [each for each in event.trace.of("wrap") if each.number < event.number]
            for call in trainer_calls(usage, receiver(event.call)) if wraps else ():
                if keyword(call, "peft_config") is None:
                    found |= dict.fromkeys(models_of_trainer(usage, call))
        # A callback that holds the adapted model itself is right.
        roots = (dotted(receiver(event.call))[0] for event in usage.events("allocate"))
        given = (usage.scopes.bindings(root) for root in roots if last_name(root) != "self")
        is_given = any(each.kind == "parameter" for bindings in given for each in bindings)
        for model in found:
            if _is_base(usage, model):
                message = f"{shown(model)} is the base model"
                yield CodeFault(model, message, severity=None if is_given else "warning")


def is_after_the_wrap(usage: Usage, call: ast.AST) -> bool:
    """Return whether a call comes behind one that adds an adapter, in the same function."""
    wraps = [wrap for wrap in usage.wraps if wrap.is_adalora and not wrap.is_injected]
    return any(usage.scopes.is_before(wrap.call, call) for wrap in wraps)


class MergedInTheLoop(UsageRule):
    code = "ADA928"
    only_with = ("merge",)
    summary = "the adapter is merged into the model before or while it is trained"
    why = """merge_and_unload and unload change the model that they are called on: the layers
    of the adapter are gone afterwards, so the next round trains nothing, and nothing is saved."""
    bad = (HEAD + EPOCHS).replace("for batch", "model.merge_and_unload()\n    for batch")
    good = HEAD + EPOCHS + "model.merge_and_unload()\n"
    hint = "merge after the training, or merge a copy: copy.deepcopy(model).merge_and_unload()"

    def check_usage(self, usage: Usage) -> Iterator[CodeFault]:
        found: set[ast.AST] = set()
        for event in usage.events("merge"):
            around = [loop for loop in event.loops if loop not in event.trace.runs]
            trained = {loop for each in event.trace.of("step") for loop in each.loops}
            model = receiver(event.call)
            is_merged = last_name(event.call.func) != "merge_adapter"
            is_merged |= "unmerge_adapter" not in usage.scopes.callers
            is_certain = is_merged and not event.guards and usage.is_adalora_model(model)
            if is_certain and event.node not in found and not trained.isdisjoint(around):
                found.add(event.node)
                message = "the adapter is merged in a loop that goes on training it"
                yield CodeFault(event.node, message)
        for event in usage.events("optimizer"):
            for model in held_models(usage, event.call):
                for call in usage.calls(model):
                    if last_name(call.func) in UNLOADS and call not in found:
                        message = "the optimizer is given a model whose adapter is merged"
                        yield CodeFault(event.node, message, note=(call, "it is merged here"))


class AllocationNeverReached(AllocationRule):
    code = "ADA941"
    summary = "update_and_allocate waits for a condition that the model never meets"
    why = """get_peft_model returns a PeftModel, whose base_model is the AdaLoraModel; a wrapper for
    parallel training has the model as `module`. The condition asks the outer object, so the call
    is never reached, without an error."""
    bad = HEAD + LOOP.replace(
        "    model.base_model", "    if isinstance(model, AdaLoraModel):\n        model.base_model"
    )
    hint = "call it without the condition, or ask model.base_model"

    def check_guard(self, usage: Usage, guard: Guard) -> str | None:
        is_never = guard.holds and _fails(usage, guard.test)
        return f"{shown(guard.test)} is never true" if is_never else None


def _fails(usage: Usage, test: ast.expr) -> bool:
    match test:
        case ast.Call(ast.Name("hasattr"), [asked, word, *_]):
            return usage.script.values.of(word) == ALLOCATE and _wrapper(usage, asked) is not None
        case ast.Call(ast.Name("isinstance"), [asked, word, *_]):
            wraps = {usage.wrap_of.get(leaf) for leaf in usage.origins(asked)}
            made = {None if wrap is None else called_name(wrap.call) for wrap in wraps}
            is_outer = made == {"get_peft_model"} and last_name(asked) != "base_model"
            return is_outer and last_name(word) == "AdaLoraModel"
    return False


class AdapterNotSaved(UsageRule):
    code = "ADA933"
    methods = BOTH
    only_with = ("save",)
    summary = "the base model is saved after the training, and the adapter is not"
    why = """save_pretrained of the base model writes all of its weights with the names of the
    adapter's layers, and no adapter_config.json: what was trained cannot be loaded again."""
    bad = HEAD + LOOP + 'model.base_model.model.save_pretrained("out")\n'
    good = HEAD + LOOP + 'model.save_pretrained("out")\n'
    hint = 'save what get_peft_model returned: model.save_pretrained("out")'

    def check_usage(self, usage: Usage) -> Iterator[CodeFault]:
        yield from _kept_in_part(usage)
        saves = {c: receiver(c) for c in usage.scopes.callers.get("save_pretrained", ())}
        given = saves.values()
        is_saved = any(usage.is_adalora_model(m) and not _is_inside(m) for m in given)
        for call, model in saves.items() if not is_saved else ():
            for made in usage.calls(model):
                if called_name(made) == "unload" and usage.is_adalora_model(receiver(made)):
                    message = "the base model is saved: unload() has dropped what was trained"
                    yield CodeFault(call, message, "call merge_and_unload() in its place")
        merges = [e for e in usage.events("merge") if called_name(e.node) in UNLOADS]
        for event in merges:
            is_dropped = isinstance(usage.scopes.parents[event.node], ast.Expr)
            for call, model in saves.items() if is_dropped else ():
                is_same = ast.dump(model) == ast.dump(receiver(event.call))
                if is_same and usage.scopes.is_before(event.node, call):
                    message = "what is saved has lost its adapter, and the merged model is dropped"
                    hint = "write merged = model.merge_and_unload(), and save that"
                    yield CodeFault(call, message, hint, note=(event.node, "it is merged here"))
        if merges or is_saved:
            return
        for call, model in saves.items():
            if _is_inside(model) or (_is_base(usage, model) and is_after_the_wrap(usage, call)):
                yield CodeFault(call, f"{shown(model)} is the base model")


def _kept_in_part(usage: Usage) -> Iterator[CodeFault]:
    """Yield a fault for a choice of weights that takes lora_A and lora_B, and not lora_E."""
    is_possible = not usage.of_lora and "lora_B" in usage.script.code
    for made in usage.scopes.of if is_possible else ():
        if not isinstance(made, ast.DictComp) or "state_dict" not in ast.unparse(
            made.generators[0]
        ):
            continue
        words, _ = words_in(made)
        if {"lora_A", "lora_B"} <= words and not takes_e(words):
            yield CodeFault(made, "lora_A and lora_B of the adapter are kept, and no lora_E")
