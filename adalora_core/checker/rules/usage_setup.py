"""Find faults of what is set up for a training: processes, factors, loaded and second adapters."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

from adalora_core.checker.documents.python.syntax import keyword, last_name, walk
from adalora_core.checker.rules.usage_base import (
    CALLBACK,
    HEAD,
    LOOP,
    PLACES,
    AllocationRule,
    CodeFault,
    UsageRule,
    example,
)
from adalora_core.checker.scripts.trainings import (
    held_models,
    models_of_trainer,
    second_wraps,
    trainings,
)
from adalora_core.config.rules.targets import lacking, usual_hint

if TYPE_CHECKING:
    from collections.abc import Iterator

    from adalora_core.checker.scripts.events import Event, Trace
    from adalora_core.checker.scripts.usage import Usage

_MAIN_PROCESS = re.compile(
    r"\bis_(?:local_)?main_process\b|\bis_(?:world|local)_process_zero\b|\bis_(?:main|master)\b"
    r"|\bis_global_zero\b|\brank(?:\(\))? == 0\b|\brank in [\[(]-1, 0[\])]"
)
_TRAINS_ALL = frozenset({"requires_grad_", "set_adapter", "enable_adapters"})
"""Methods that may make the parameters of a loaded adapter trainable."""


class AllocationOnOneProcess(AllocationRule):
    code = "ADA917"
    summary = "update_and_allocate is called on the main process only"
    why = """Every process holds the factors of its own replica, and nothing sends them to the
    others: the main process drops triplets that the others keep, so the replicas come apart, and
    what is saved is the main one's alone."""
    bad = example(
        LOOP.replace(
            "    model.base_model.update",
            "    if accelerator.is_main_process:\n        model.base_model.update",
        ),
        "from accelerate import Accelerator",
    ).replace("optimizer =", "accelerator = Accelerator()\noptimizer =")
    good = HEAD + LOOP
    hint = "call it on every process; only save and log on the main one"

    def check_call(self, usage: Usage, trace: Trace, event: Event) -> CodeFault | None:
        """Return a fault if a condition asks for the main process."""
        del usage, trace
        for guard in event.guards:
            test, holds = guard.test, guard.holds
            while isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
                test, holds = test.operand, not holds
            text = ast.unparse(test)
            if holds and not isinstance(test, ast.BoolOp) and _MAIN_PROCESS.search(text):
                message = f"update_and_allocate is called only where `{text[:60]}`"
                return CodeFault(event.node, message, note=(guard.test, "the condition"))
        return None


class CallbackMethodNeverCalled(AllocationRule):
    code = "ADA918"
    summary = "update_and_allocate is called in a method that Trainer never calls"
    why = """Trainer calls the methods of a callback by their names. A method of another name that
    nothing calls never runs, so nothing is allocated, without an error."""
    bad = example(
        CALLBACK.replace("on_optimizer_step", "after_optimizer_step"),
        "from transformers import Trainer, TrainerCallback",
    )
    good = example(CALLBACK, "from transformers import Trainer, TrainerCallback")
    hint = PLACES["callback"]

    def check_call(self, usage: Usage, trace: Trace, event: Event) -> CodeFault | None:
        """Return a fault if the method is no event of Trainer and has no caller."""
        method = trace.function
        if method is None or usage.framework(method) != "callback":
            return None
        is_event = method.name.startswith("on_") or method.name.startswith("__")
        if is_event or usage.calls_of(method):
            return None
        message = f"`{method.name}` is not an event of Trainer, and nothing calls it"
        return CodeFault(event.node, message)


class FactorsNotOptimised(UsageRule):
    code = "ADA919"
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
        """Yield a fault for each optimizer whose groups take A and B by name, and never E."""
        for _, event in usage.events("optimizer"):
            taken: set[str] = set()
            is_open = False
            for test, has_rest in _selections(usage, event.call):
                words, is_positive = _words_in(test)
                taken |= words
                is_open = is_open or has_rest or not is_positive
            if {"lora_A", "lora_B"} <= taken and not is_open and not _takes_e(taken):
                yield CodeFault(
                    event.node,
                    "the groups of the optimizer take lora_A and lora_B, and none lora_E",
                )


def _selections(usage: Usage, optimizer: ast.Call) -> Iterator[tuple[ast.expr, bool]]:
    """Yield the tests by which parameters are chosen, each with whether others are taken too."""
    lists: set[str] = set()
    for node in usage.mentions(optimizer):
        if isinstance(node, ast.Name):
            lists.add(node.id)
        for part in node.generators if isinstance(node, ast.ListComp | ast.GeneratorExp) else ():
            yield from ((test, False) for test in part.ifs)
            if not part.ifs:
                yield part.iter, True
    function = usage.scopes.of[optimizer].function
    for loop in walk(function) if function is not None else ():
        if isinstance(loop, ast.For) and "named_parameters" in ast.unparse(loop.iter):
            yield from _branches(loop.body, lists)


def _branches(body: list[ast.stmt], lists: set[str]) -> Iterator[tuple[ast.expr, bool]]:
    """Yield the conditions under which a loop appends to one of some lists."""
    for statement in body:
        if not isinstance(statement, ast.If):
            continue
        test, rest = statement.test, statement.orelse
        is_chain = len(rest) == 1 and isinstance(rest[0], ast.If)
        if any(_appends(each, lists) for each in statement.body):
            yield test, bool(rest) and not is_chain
        if is_chain:
            yield from _branches(rest, lists)


def _appends(statement: ast.stmt, lists: set[str]) -> bool:
    return any(
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in {"append", "add"}
        and last_name(node.func.value) in lists
        for node in walk(statement)
    )


def _words_in(test: ast.expr) -> tuple[set[str], bool]:
    """Return the texts that a name has to hold, and whether nothing else is taken."""
    words, is_positive = set(), True
    for node in walk(test):
        if isinstance(node, ast.Compare) and isinstance(node.left, ast.Constant):
            if isinstance(node.ops[0], ast.In):
                words.add(str(node.left.value))
            else:
                is_positive = False
        elif isinstance(node, ast.Call) and last_name(node.func) in {
            "any",
            "all",
            "match",
            "search",
        }:
            is_positive = False
    if not words and "requires_grad" in ast.unparse(test):
        return words, True
    return words, is_positive and bool(words)


def _takes_e(words: set[str]) -> bool:
    return any(word in "base_model.model.layer.lora_E.default" for word in words)


class LoadedAdapterTrained(UsageRule):
    code = "ADA920"
    errors = (
        "element 0 of tensors does not require grad",
        "optimizer got an empty parameter list",
    )
    summary = "an adapter is loaded for inference, and then trained"
    why = """from_pretrained freezes the adapter unless is_trainable is true. The optimizer then has
    no parameters to train, or trains the others alone, and `loss.backward()` may raise `element 0
    of tensors does not require grad`."""
    bad = (
        (HEAD + LOOP)
        .replace("import AdaLoraConfig, get_peft_model", "import PeftModel")
        .replace(
            HEAD.partition("\n\n")[2].partition("optimizer")[0],
            'model = PeftModel.from_pretrained(base, "adapter")\n',
        )
    )
    good = bad.replace('"adapter")', '"adapter", is_trainable=True)')
    hint = "pass is_trainable=True to from_pretrained"

    def check_usage(self, usage: Usage) -> Iterator[CodeFault]:
        """Yield a fault for each such adapter."""
        if any(map(_makes_trainable, usage.scopes.of)):
            return
        given = [m for _, e in usage.events("optimizer") for m in held_models(usage, e.call)]
        trained = usage.once(trainings)
        given += [m for each in trained for t in each.trainers for m in models_of_trainer(usage, t)]
        loaded = dict.fromkeys(call for model in given for call in usage.calls(model))
        for call in loaded:
            name = usage.scopes.full_name(call.func)
            if not name.endswith(".from_pretrained") or "Peft" not in name:
                continue
            value = usage.keywords(call).get("is_trainable") or keyword(call, "is_trainable", at=3)
            is_frozen = value is None or (isinstance(value, ast.Constant) and value.value is False)
            if is_frozen and not any(each.arg is None for each in call.keywords):
                yield CodeFault(call, "the adapter is loaded for inference, and trained afterwards")


class EpochIsCut(UsageRule):
    code = "ADA922"
    summary = "total_step counts whole epochs, and the loop leaves each of them early"
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
            measured = {
                ast.unparse(n.args[0])
                for n in nodes
                if isinstance(n, ast.Call) and last_name(n.func) == "len" and n.args
            }
            words = _names(nodes)
            for loop in loops:
                cut = _cut(loop, measured, words)
                if cut is not None:
                    message = (
                        f"total_step is `{ast.unparse(value)[:60]}`, and each epoch ends early"
                    )
                    yield CodeFault(key, message, note=(cut, "the loop is left here"))
                    break


def _cut(loop: ast.AST, measured: set[str], words: set[str]) -> ast.stmt | None:
    """Return the statement that leaves a loop over a measured loader after some batches."""
    if not isinstance(loop, ast.For):
        return None
    over, index = loop.iter, None
    while (
        isinstance(over, ast.Call) and over.args and last_name(over.func) in {"enumerate", "tqdm"}
    ):
        if last_name(over.func) == "enumerate" and isinstance(loop.target, ast.Tuple):
            index = last_name(loop.target.elts[0])
        over = over.args[0]
    if index is None or ast.unparse(over) not in measured:
        return None
    for each in loop.body:
        if isinstance(each, ast.If) and isinstance(each.body[-1], ast.Break):
            names = _names(list(walk(each.test)))
            if index in names and names.isdisjoint(words - {index}):
                return each
    return None


def _names(nodes: list[ast.AST]) -> set[str]:
    """Return the names of values: `a.limit` is "limit"."""
    owners = {id(node.value) for node in nodes if isinstance(node, ast.Attribute)}
    named = (node for node in nodes if isinstance(node, ast.Name | ast.Attribute))
    return {last_name(node) for node in named if id(node) not in owners}


class PenaltyWithoutGradient(UsageRule):
    code = "ADA923"
    summary = "a term of the loss is computed without gradients"
    why = """A number that is computed under torch.no_grad() is a constant to backward(): added to
    the loss it changes what is printed, and trains nothing."""
    bad = (
        (HEAD + LOOP)
        .replace(
            "for step",
            "@torch.no_grad()\ndef penalty(model):\n    return sum(p.norm() for p in model.parameters())"
            "\n\n\nfor step",
        )
        .replace(
            "    model(**batch).loss.backward()\n",
            "    loss = model(**batch).loss + 0.1 * penalty(model)\n    loss.backward()\n",
        )
    )
    good = HEAD + LOOP
    hint = "compute the term with gradients, outside of torch.no_grad()"

    def check_usage(self, usage: Usage) -> Iterator[CodeFault]:
        """Yield a fault for each such term."""
        for function in usage.scopes.of:
            if not isinstance(function, ast.FunctionDef) or not any(
                _has_no_gradient(each) for each in function.decorator_list
            ):
                continue
            for call in usage.calls_of(function):
                if _is_added_to_loss(usage, call):
                    message = f"`{ast.unparse(call)[:60]}` has no gradient: it trains nothing"
                    yield CodeFault(call, message, note=(function, "it runs under torch.no_grad()"))


def _has_no_gradient(decorator: ast.expr) -> bool:
    made = decorator.func if isinstance(decorator, ast.Call) else decorator
    return last_name(made) in {"no_grad", "inference_mode"}


def _is_added_to_loss(usage: Usage, call: ast.Call) -> bool:
    node, parent = call, usage.scopes.parents[call]
    while isinstance(parent, ast.BinOp) and isinstance(parent.op, ast.Mult):
        node, parent = parent, usage.scopes.parents[parent]
    if isinstance(parent, ast.AugAssign):
        return "loss" in ast.unparse(parent.target).lower()
    if not isinstance(parent, ast.BinOp) or not isinstance(parent.op, ast.Add):
        return False
    other = parent.left if parent.right is node else parent.right
    return "loss" in ast.unparse(other).lower()


class ConfigurationShared(UsageRule):
    code = "ADA924"
    summary = "two trainings share one configuration"
    why = """An allocation writes rank_pattern into the configuration, and total_step is that of
    one run: the second adapter begins with the ranks and the schedule of the first."""
    bad = example(
        "model = model.merge_and_unload()\nmodel = get_peft_model(model, config)\n" + LOOP
    )
    good = HEAD + LOOP
    hint = "make a configuration for each training"

    def check_usage(self, usage: Usage) -> Iterator[CodeFault]:
        """Yield a fault for each later use of a configuration."""
        first: dict[ast.Call, ast.Call] = {}
        again = {call for call, _ in second_wraps(usage)}
        for wrap in usage.wraps if any(True for _ in usage.events("allocate")) else ():
            made = [call for call in usage.calls(wrap.config) if usage.makes_config(call)]
            if not wrap.is_adalora or wrap.is_injected or wrap.call in again or len(made) != 1:
                continue
            before = first.setdefault(made[0], wrap.call)
            of = usage.scopes.of
            is_same = of[before].function is of[wrap.call].function is of[made[0]].function
            if before is wrap.call or not is_same:
                continue
            if not usage.scopes.is_excluded(wrap.call, usage.scopes.above(before)):
                yield CodeFault(
                    wrap.call,
                    "the configuration of another training is used again",
                    note=(before, "the first training"),
                )


class TargetsOfAnotherBase(UsageRule):
    code = "ADA921"
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
                for message, usual in lacking(base or "", names):
                    yield CodeFault(key, message, usual_hint(usual))


def _name_of_base(usage: Usage, call: ast.Call) -> str | None:
    if not usage.scopes.full_name(call.func).endswith(".from_pretrained"):
        return None
    given = keyword(call, "pretrained_model_name_or_path", at=0)
    found = {usage.script.values.of(leaf) for leaf in usage.origins(given)}
    name = found.pop() if len(found) == 1 else None
    return name if isinstance(name, str) else None


def _makes_trainable(node: ast.AST) -> bool:
    if isinstance(node, ast.Attribute) and node.attr == "requires_grad":
        return isinstance(node.ctx, ast.Store)
    return isinstance(node, ast.Attribute) and node.attr in _TRAINS_ALL
