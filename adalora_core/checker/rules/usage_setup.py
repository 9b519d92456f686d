"""Find faults of what a training is set up with: optimizer, adapter, base, configuration."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING

from adalora_core.checker.documents.python.syntax import (
    called_name,
    keyword,
    last_name,
    only,
    passed,
    walk,
)
from adalora_core.checker.rules.usage_base import HEAD, LOOP, CodeFault, UsageRule, shown
from adalora_core.checker.scripts.events import receiver, trainer_calls
from adalora_core.checker.scripts.trainings import (
    held_models,
    models_of_trainer,
)

if TYPE_CHECKING:
    from adalora_core.checker.scripts.usage import Usage, Wrap

_TRAINS_ALL = frozenset({"requires_grad_", "set_adapter", "enable_adapters"})
"""Methods that may make the parameters of a loaded adapter trainable."""
_WITHOUT_FACTORS = re.compile("classif|score|head|embed")
"""What the names of parts say that hold no factors."""
_ANY_WORDS = frozenset({"any", "all", "match", "search"})
"""Functions whose result does not show which names are taken."""


class FactorsNotOptimised(UsageRule):
    code = "ADA919"
    only_with = ("lora_A",)
    summary = "the optimizer's groups are made by names, and no group takes lora_E"
    why = """E, the singular values, starts at zero with PEFT's start. Left out of the optimizer it
    stays there: the adapter adds nothing, and its triplets have no importance."""
    bad = (HEAD + LOOP).replace(
        "optimizer = AdamW(model.parameters())",
        "named = list(model.named_parameters())\n"
        'a = [p for n, p in named if "lora_A" in n]\n'
        'b = [p for n, p in named if "lora_B" in n]\n'
        'optimizer = AdamW([{"params": a}, {"params": b, "lr": 1e-3}])',
    )
    hint = 'put the parameters with "lora_E" in their names into a group, or take all the others'

    def check_usage(self, usage: Usage) -> Iterator[CodeFault]:
        for event in usage.events("optimizer") if "lora_B" in usage.script.code else ():
            taken: set[str] = set()
            is_open = False
            for test, has_rest in _selections(usage, event.call):
                words, is_positive = words_in(test)
                taken |= words
                is_open = is_open or has_rest or not is_positive
            if {"lora_A", "lora_B"} <= taken and not is_open and not takes_e(taken):
                message = "the groups of the optimizer take lora_A and lora_B, and none lora_E"
                yield CodeFault(event.node, message)


def _selections(usage: Usage, optimizer: ast.Call) -> Iterator[tuple[ast.expr, bool]]:
    """Yield the tests by which parameters are chosen, each with whether others are taken too."""
    lists: set[str] = set()
    functions: dict[ast.AST, None] = {}
    given = [leaf for each in optimizer.args for leaf in usage.origins(each)]
    for node in (node for each in (optimizer, *given) for node in usage.mentions(each, ast.expr)):
        if isinstance(node, ast.Name):
            lists.add(node.id)
            functions[usage.scopes.of[node].function] = None
        for part in node.generators if isinstance(node, ast.ListComp | ast.GeneratorExp) else ():
            yield from ((test, False) for test in part.ifs)
            if not part.ifs:
                yield part.iter, True
    for loop in usage.once(_named_loops):
        if not functions.keys().isdisjoint(usage.scopes.above(loop)):
            yield from _branches(loop.body, lists)


def _named_loops(usage: Usage) -> list[ast.For]:
    """Return the loops over the parameters of models and their names."""
    loops = (each for each in usage.scopes.of if isinstance(each, ast.For))
    return [each for each in loops if "named_parameters" in ast.unparse(each.iter)]


def _branches(body: list[ast.stmt], lists: set[str]) -> Iterator[tuple[ast.expr, bool]]:
    """Yield the conditions under which a loop appends to one of some lists."""
    for statement in body:
        if not isinstance(statement, ast.If):
            continue
        test, rest = statement.test, statement.orelse
        is_chain = len(rest) == 1 and isinstance(rest[0], ast.If)
        if any(_appends(each, lists) for each in statement.body):
            yield test, not is_chain and any(_appends(each, lists) for each in rest)
        if is_chain:
            yield from _branches(rest, lists)


def _appends(statement: ast.stmt, lists: set[str]) -> bool:
    return any(
        called_name(node) in {"append", "add"} and last_name(receiver(node)) in lists
        for node in walk(statement, ast.Call)
    )


def words_in(test: ast.AST) -> tuple[set[str], bool]:
    """Return the texts that a name has to hold, and whether nothing else is taken."""
    words, is_positive = set(), True
    for node in walk(test, ast.Compare, ast.Call):
        if isinstance(node, ast.Compare) and isinstance(node.left, ast.Constant):
            is_in = isinstance(node.ops[0], ast.In)
            words |= {str(node.left.value)} if is_in else set()
            is_positive = is_positive and is_in
        elif called_name(node) in _ANY_WORDS:
            is_positive = False
    return words, is_positive and (bool(words) or "requires_grad" in ast.unparse(test))


def takes_e(words: set[str]) -> bool:
    """Return whether one of some texts is in the name of the singular values."""
    return any(word in "base_model.model.layer.lora_E.default" for word in words)


class LoadedAdapterTrained(UsageRule):
    code = "ADA920"
    only_with = ("from_pretrained", "Peft")
    errors = (
        "element 0 of tensors does not require grad",
        "optimizer got an empty parameter list",
    )
    summary = "an adapter is loaded for inference, and then trained"
    why = """from_pretrained freezes the adapter unless is_trainable is true. The optimizer then has
    no parameters to train, or trains the others alone, and `loss.backward()` may raise `element 0
    of tensors does not require grad`."""
    bad = (
        "from peft import PeftModel\n\n"
        'model = PeftModel.from_pretrained(base, "adapter")\n'
        "optimizer = AdamW(model.parameters())\n"
    ) + LOOP
    good = bad.replace('"adapter")', '"adapter", is_trainable=True)')
    hint = "pass is_trainable=True to from_pretrained"

    def check_usage(self, usage: Usage) -> Iterator[CodeFault]:
        given = [m for e in usage.events("optimizer") for m in held_models(usage, e.call)]
        made = (trainer_calls(usage, receiver(event.call)) for event in usage.events("train"))
        given += [m for trainer in chain(*made) for m in models_of_trainer(usage, trainer)]
        calls = dict.fromkeys(
            call
            for model in given
            for call in usage.calls(model)
            if usage.wrap_of.keys().isdisjoint(usage.origins(model)) or _resumes(usage, call)
        )
        wrapped = {leaf for wrap in usage.wraps for leaf in usage.origins(wrap.model)}
        for call in calls:
            if call not in wrapped and _loads_frozen(usage, call) and not unfrozen(usage, call):
                yield CodeFault(call, "the adapter is loaded for inference, and trained afterwards")


def _resumes(usage: Usage, call: ast.Call) -> bool:
    """Return whether a call is under a condition that asks for a resumed training."""
    around = [each for each in usage.scopes.above(call) if isinstance(each, ast.If)]
    return any("resume" in ast.unparse(each.test).lower() for each in around)


def _loads_frozen(usage: Usage, call: ast.Call) -> bool:
    """Return whether a call loads an adapter whose factors are not trained."""
    name = usage.scopes.full_name(call.func)
    if not name.endswith(".from_pretrained") or "Peft" not in name:
        return False
    value = usage.keywords(call).get("is_trainable") or keyword(call, "is_trainable", at=3)
    is_frozen = value is None or (isinstance(value, ast.Constant) and value.value is False)
    return is_frozen and not any(each.arg is None for each in call.keywords)


class RankGivenAsR(UsageRule):
    code = "ADA927"
    summary = "a variable is given as r, which AdaLoRA does not read, and init_r is not set"
    why = """r is LoRA's rank. Whatever the variable holds, every matrix starts with 12 triplets,
    PEFT's default of init_r. Rule r-ignored reports numbers that are known, and rule
    ranks-defaulted that target_r is not set either."""
    bad = HEAD.replace("init_r=12", "r=args.rank") + LOOP
    hint = "give the rank as init_r, and the average rank at the end as target_r"

    def check_usage(self, usage: Usage) -> Iterator[CodeFault]:
        for call in usage.script.calls:
            key, value = call.entries.get("r", (None, None))
            given = call.entries.keys() | call.deferred
            is_meant = not call.is_open and "target_r" in given and "init_r" not in given
            if key is not None and value is not None and "r" in call.deferred and is_meant:
                message = f"`r` is {shown(value)}, and the run starts at init_r = 12"
                yield CodeFault(key, message)


class UnsupportedCall(UsageRule):
    code = "ADA925"
    severity = "error"
    errors = (
        "supports only 1 trainable adapter",
        "does not support add_weighted_adapter method",
        "self._unload_and_optionally_merge ... raise NotImplementedError",
    )
    summary = "a method is called that AdaLoRA in PEFT does not have there"
    why = """PEFT's AdaLoRA trains one adapter, adds no weighted adapters, and merges none into a
    quantised base. Each such call raises."""
    bad = HEAD + LOOP + 'model.add_weighted_adapter(["default", "b"], [0.5, 0.5], "both")\n'
    hint = "train each adapter in a model of its own"

    def check_usage(self, usage: Usage) -> Iterator[CodeFault]:
        ours = [name for name in usage.our_names if not name.startswith("adalora_core.peft")]
        for call in usage.scopes.calls if not ours else ():
            reason = _REFUSED.get(last_name(call.func))
            if reason is not None and isinstance(call.func, ast.Attribute):
                wraps = {usage.wrap_of.get(leaf): None for leaf in usage.origins(call.func.value)}
                for wrap in wraps:
                    if wrap is not None and wrap.is_adalora and _is_refused(usage, call, wrap):
                        yield CodeFault(call, *reason)


_MERGED = (
    "the adapter is merged into a quantised base, which PEFT does not do for AdaLoRA",
    "load the base without quantisation, and merge the saved adapter into that",
)
_REFUSED = {
    "add_adapter": (
        "a second trainable adapter is added, and AdaLoRA in PEFT trains one",
        "set inference_mode=True in its configuration, or train it in another model",
    ),
    "add_weighted_adapter": ("AdaLoRA in PEFT has no weighted adapters", "use one of the adapters"),
    "merge_and_unload": _MERGED,
    "merge_adapter": _MERGED,
}
"""What is called, with a message and a hint."""


def _is_refused(usage: Usage, call: ast.Call, wrap: Wrap) -> bool:
    """Return whether PEFT refuses a call of a method of a model that it has wrapped."""
    name = called_name(call)
    if usage.scopes.is_before(call, wrap.call):
        return False
    if name == "add_adapter":
        given = (wrap.config, *passed(call))
        made = [each for value in given for each in usage.calls(value) if usage.makes_config(each)]
        is_trained = all("inference_mode" not in usage.keywords(each) for each in made)
        is_trained = is_trained and "inference_mode" not in usage.stored
        return len(made) > 1 and is_trained and "delete_adapter" not in usage.scopes.callers
    if name == "add_weighted_adapter":
        return True
    bases = [usage.keywords(each) for each in usage.calls(wrap.model)]
    return bool(bases) and all(_is_quantised(usage, given) for given in bases)


def _is_quantised(usage: Usage, given: dict[str, ast.expr]) -> bool:
    loads = (given.get("load_in_4bit"), given.get("load_in_8bit"))
    if any(isinstance(each, ast.Constant) and each.value is True for each in loads):
        return True
    made = set(map(called_name, usage.calls(given.get("quantization_config"))))
    return made == {"BitsAndBytesConfig"}


def unfrozen(usage: Usage, call: ast.AST, *, of_factors: bool = False) -> list[ast.expr]:
    """Return what can make parameters, or factors, trainable that a call freezes: none before."""
    made = usage.once(_unfreezing)
    wanted = [each for each, is_of_factors in made.items() if is_of_factors or not of_factors]
    return [each for each in wanted if not usage.scopes.is_before(each, call)]


def _unfreezing(usage: Usage) -> dict[ast.expr, bool]:
    """Return what can make parameters trainable, and whether factors of an adapter can be some."""
    made = [call.func for name in _TRAINS_ALL for call in usage.scopes.callers.get(name, ())]
    for each in usage.scopes.words.get("requires_grad", ()):
        value = sets_gradient(usage.scopes.parents[each])
        if getattr(value, "value", value) not in {None, False}:
            made.append(each)
    return {each: not _leaves_factors(usage, each) for each in made}


def _leaves_factors(usage: Usage, made: ast.expr) -> bool:
    """Return whether what makes parameters trainable does so for a head or an embedding alone."""
    if not isinstance(made, ast.Attribute) or "requires_grad" not in made.attr:
        return False
    part = made.value
    loop = only(b.node for b in usage.reaching(part)) if isinstance(part, ast.Name) else None
    if isinstance(loop, ast.For) and isinstance(loop.iter, ast.Call):
        words, is_positive = words_in(loop)
        if words:
            return is_positive and all(map(_WITHOUT_FACTORS.search, words))
        part = receiver(loop.iter)
    is_named = _WITHOUT_FACTORS.search(ast.unparse(part)) is not None
    return is_named and not usage.is_adalora_model(part)


def sets_gradient(statement: ast.AST) -> ast.expr | None:
    """Return what a statement assigns to `requires_grad` of something; None: another one."""
    match statement:
        case ast.Assign([target, *_], value) if last_name(target) == "requires_grad":
            return value
    return None
