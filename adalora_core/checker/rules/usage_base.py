"""Define the base class of the rules about what a script does with AdaLoRA (family ADA9xx)."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from adalora_core.checker.documents.python.syntax import FUNCTION, last_name, walk
from adalora_core.config.rules.base import Rule

if TYPE_CHECKING:
    from adalora_core.checker.documents.python.scopes import Scopes
    from adalora_core.checker.scripts.events import Event, Guard
    from adalora_core.checker.scripts.usage import Usage
    from adalora_core.config.findings import Remedy, Severity
    from adalora_core.config.rules.base import Needs

_IMPORT = "from peft import AdaLoraConfig, get_peft_model\n"
_SETUP = """\
config = AdaLoraConfig(
    task_type="CAUSAL_LM",
    target_modules=["q_proj", "v_proj"],
    init_r=12,
    target_r=8,
    tinit=200,
    tfinal=200,
    deltaT=10,
    total_step=1000,
)
model = get_peft_model(base, config)
optimizer = AdamW(model.parameters())
"""
HEAD = f"{_IMPORT}\n{_SETUP}"
LOOP = """\
for step, batch in enumerate(batches):
    model(**batch).loss.backward()
    optimizer.step()
    model.base_model.update_and_allocate(step)
    optimizer.zero_grad()
"""
EPOCHS = """\
step = 0
for epoch in range(3):
    for batch in loader:
        model(**batch).loss.backward()
        optimizer.step()
        model.base_model.update_and_allocate(step)
        optimizer.zero_grad()
        step += 1
"""
CALLBACK = """\


class Allocate(TrainerCallback):
    def on_optimizer_step(self, args, state, control, model=None, **kwargs):
        model.base_model.update_and_allocate(state.global_step)


Trainer(model=model, train_dataset=rows, callbacks=[Allocate()]).train()
"""


def example(body: str, *imports: str) -> str:
    """Return a script that makes an adapter, with further imports and a body."""
    lines = "".join(f"{line}\n" for line in imports)
    return f"{_IMPORT}{lines}\n{_SETUP}{body}"


_IN_A_TRAINER = (
    "call it from a TrainerCallback in on_optimizer_step, with state.global_step; "
    "Trainer(callbacks=[...]) takes the callback"
)
PLACES: dict[str, str] = {
    "loop": (
        "call model.base_model.update_and_allocate(step) after optimizer.step() and before "
        "optimizer.zero_grad()"
    ),
    "accelerate": (
        "call update_and_allocate(step) after optimizer.step() under "
        "`if accelerator.sync_gradients:`, before optimizer.zero_grad()"
    ),
    "trainer": _IN_A_TRAINER,
    "callback": _IN_A_TRAINER,
    "lightning": (
        "override optimizer_step and call update_and_allocate after super().optimizer_step(...); "
        "without accumulation on_train_batch_end is right too"
    ),
}
"""Where each framework has the gradients of a step that is made."""


class CodeFault(NamedTuple):
    """A fault of the code, at a node of its tree.

    Args:
        node: the node that is marked.
        message: the subject, the problem and the values.
        hint: the hint, where it differs from the rule's.
        note: another node, and what it is.
        remedy: the change that corrects the fault.
        severity: the severity, where it differs from the rule's.
    """

    node: ast.AST
    message: str
    hint: str | None = None
    note: tuple[ast.AST, str] | None = None
    remedy: Remedy | None = None
    severity: Severity | None = None


_LONGEST = 100
"""Bound on the characters of code in a message."""


def shown(node: ast.AST) -> str:
    """Return the code of a node for a message, whole or not at all."""
    code = ast.unparse(node)
    return f"`{code}`" if len(code) <= _LONGEST else "this expression"


class UsageRule(Rule):
    """A fault of the code around a configuration.

    A rule does not guess: what another file may do is left alone.
    """

    language = "python"
    needs: ClassVar[Needs] = "script"
    severity: ClassVar[Severity] = "warning"
    good = HEAD + LOOP
    only_with: ClassVar[tuple[str, ...]] = ()
    """Words that are all in the code wherever the fault is: without them nothing is looked for."""

    def check_usage(self, usage: Usage) -> Iterable[CodeFault]:
        """Yield the faults of a script that this rule finds."""
        del usage
        return ()


class AllocationRule(UsageRule):
    """A fault of one call of `update_and_allocate`."""

    def check_usage(self, usage: Usage) -> Iterator[CodeFault]:
        """Yield at most one fault of each call."""
        seen: set[ast.AST] = set()
        for event in usage.events("allocate"):
            found = None if event.node in seen else self.check_call(usage, event)
            if found is not None:
                seen.add(event.node)
                yield found

    def check_call(self, usage: Usage, event: Event) -> CodeFault | None:
        """Return the fault of a call, as one of the ways of the script reaches it."""
        for guard in event.guards:
            message = self.check_guard(usage, guard)
            if message is not None:
                return CodeFault(event.node, message, note=(guard.test, "the condition"))
        return None

    def check_guard(self, usage: Usage, guard: Guard) -> str | None:
        """Return the message on a condition under which the call is a fault."""
        raise NotImplementedError


_CAUGHT = frozenset({
    "", "Exception", "BaseException", "ValueError", "AttributeError", "RuntimeError", "TypeError",
    "NotImplementedError",
})  # fmt: skip
"""What a handler catches that is meant for an error of PEFT; empty: everything."""


def is_expected(scopes: Scopes, node: ast.AST, *, of_error: bool) -> bool:
    """Return whether a script expects a fault, catches its error, or never reaches it."""
    if scopes.is_expected_to_fail(node):
        return True
    while (outer := scopes.parents.get(node)) is not None:
        match outer:
            case ast.Try(body, handlers) if of_error and node in body:
                types = [list(walk(h.type, ast.Name)) if h.type else [None] for h in handlers]
                if not _CAUGHT.isdisjoint(last_name(each) for found in types for each in found):
                    return True
            case ast.If(ast.Constant(value), body, orelse):
                if node in (orelse if value else body):
                    return True
        node = outer
    return False


def is_used(scopes: Scopes, node: ast.AST) -> bool:
    """Return whether the functions and classes around a place are named elsewhere in the script."""
    while (outer := scopes.parents.get(node)) is not None:
        if isinstance(outer, (*FUNCTION, ast.ClassDef)) and not _is_named(scopes, outer):
            return False
        node = outer
    return True


def _is_named(scopes: Scopes, made: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> bool:
    if made.decorator_list or isinstance(scopes.parents[made], ast.ClassDef):
        return True  # the framework may call a method, or what has a mark
    return any(not scopes.is_within(each, made) for each in scopes.words.get(made.name, ()))
