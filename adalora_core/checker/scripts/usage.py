"""Describe how a script uses AdaLoRA: adapters, trainings, allocations and their order."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from adalora_core.checker.documents.python.script import CLASS, LORA_CLASS
from adalora_core.checker.documents.python.syntax import Function, keyword, last_name, spend
from adalora_core.checker.scripts.events import Event, Trace, traces
from adalora_core.checker.scripts.frameworks import ONLY_LIGHTNING, WRAPPERS, Framework
from adalora_core.checker.scripts.sources import Sources

if TYPE_CHECKING:
    from adalora_core.checker.documents.python.script import Script


_Found = TypeVar("_Found")
_LIGHTNING = frozenset({"lightning", "pytorch_lightning", "pl", "L"})


@dataclass(frozen=True, eq=False)
class Wrap:
    """A call that adds an adapter to a model.

    Args:
        call: the call; that of a trainer which is given a configuration, too.
        model: the model that is given.
        config: the configuration that is given.
        is_adalora: whether the configuration can be AdaLoRA's.
    """

    call: ast.Call
    model: ast.expr | None
    config: ast.expr | None
    is_adalora: bool

    @property
    def is_injected(self) -> bool:
        """Whether the adapter is put into a model that is not wrapped."""
        return last_name(self.call.func) in {"add_adapter", "inject_adapter_in_model"}


class Usage(Sources):
    """The use of AdaLoRA in a script: what its values come from, and what is known of them.

    Args:
        script: the script.
        of_lora: whether the use of plain LoRA is meant wherever AdaLoRA is named here.
    """

    def __init__(self, script: Script, *, of_lora: bool = False) -> None:
        super().__init__(script.scopes)
        self.script = script
        self.configurations = script.lora_calls if of_lora else script.calls
        self._class = LORA_CLASS if of_lora else CLASS
        self._read: dict[Any, Any] = {}
        self.traces = traces(self, script.tree)

    def events(self, *kinds: str) -> Iterator[tuple[Trace, Event]]:
        """Yield the events of some kinds, each node once for each way that leads there."""
        for trace in self.traces:
            spend(len(trace.events))
            for event in trace.events:
                if event.kind in kinds:
                    yield trace, event

    def makes_config(self, call: ast.expr) -> bool:
        """Return whether an expression makes a configuration of AdaLoRA."""
        if not isinstance(call, ast.Call):
            return False
        name = last_name(call.func)
        if name == "get_peft_config" and any(
            isinstance(node, ast.Constant) and str(node.value).upper() == "ADALORA"
            for node in self.mentions(call.args[0] if call.args else None)
        ):
            return True
        if name == "get_peft_config" or "Config" in name:
            return self._is_config_class(call.func)
        return any(self._is_config_class(leaf) for leaf in self.origins(call.func))

    def _is_config_class(self, node: ast.expr) -> bool:
        name = self.scopes.own_name(node)
        owner = self.scopes.classes.get(name)
        if owner is not None:
            bases = self.scopes.bases(owner)[1]
            return any(base.rpartition(".")[2] == self._class for base in bases)
        return name == self._class

    @cached_property
    def wraps(self) -> list[Wrap]:
        """The calls that add an adapter."""
        found = []
        for call in self.scopes.calls:
            name = self.scopes.own_name(call.func)
            model: ast.expr | None
            if name in WRAPPERS:
                model_at, config_at = WRAPPERS[name]
                model = keyword(call, "model", at=model_at)
                config = keyword(call, "peft_config", "config", at=config_at)
            elif name == "add_adapter" and isinstance(call.func, ast.Attribute):
                model = call.func.value
                given = [*call.args, *(each.value for each in call.keywords)]
                config = next((each for each in given if self._is_config(each)), None)
            elif keyword(call, "peft_config") is not None and name.endswith("Trainer"):
                model, config = keyword(call, "model", at=0), keyword(call, "peft_config")
            else:
                continue
            found.append(Wrap(call, model, config, self._is_config(config)))
        return found

    def _is_config(self, config: ast.expr | None) -> bool:
        return any(self.makes_config(leaf) for leaf in self.origins(config)) or any(
            isinstance(node, ast.Call) and self.makes_config(node)
            for leaf in self.origins(config)
            if not isinstance(leaf, ast.Call)
            for node in self.mentions(leaf)
        )

    def once(self, read: Callable[[Usage], _Found]) -> _Found:
        """Return what a function reads from the script; it is called once."""
        if read not in self._read:
            self._read[read] = read(self)
        found: _Found = self._read[read]
        return found

    @cached_property
    def wrap_of(self) -> dict[ast.AST, Wrap]:
        """The adapter that a call adds."""
        return {wrap.call: wrap for wrap in self.wraps}

    @cached_property
    def our_names(self) -> list[str]:
        """The full names that are imported from this package."""
        return [name for name in self.scopes.imports if name.partition(".")[0] == "adalora_core"]

    @cached_property
    def stored(self) -> set[str]:
        """The attributes that a statement assigns, of whatever object."""
        nodes = (node for node in self.scopes.of if isinstance(node, ast.Attribute))
        return {node.attr for node in nodes if isinstance(node.ctx, ast.Store)}

    @property
    def assigns_total(self) -> bool:
        """Whether a statement assigns the field `total_step` of something."""
        return "total_step" in self.stored

    @cached_property
    def imported(self) -> set[str]:
        """The last parts of the full names of what is imported."""
        return {name.rpartition(".")[2] for name in self.scopes.imports}

    def arguments(self, name: str) -> Iterator[tuple[ast.AST, ast.expr]]:
        """Yield an argument of each configuration: the node of its name, and its value."""
        for call in self.script.calls:
            key, value = call.entries.get(name, (None, None))
            if key is not None and value is not None:
                yield key, value

    def keywords(self, call: ast.Call) -> dict[str, ast.expr]:
        """Return the keyword arguments of a call, those of a known `**mapping` included."""
        found: dict[str, ast.expr] = {}
        for each in call.keywords:
            if each.arg is not None:
                found[each.arg] = each.value
                continue
            for name, (_, value) in self.script.values.entries(each.value).items():
                if isinstance(name, str) and value is not None:
                    found[name] = value
        return found

    @cached_property
    def _in_place(self) -> set[int]:
        """The models that `add_adapter` and `inject_adapter_in_model` change where they are."""
        return {
            id(leaf)
            for wrap in self.wraps
            if wrap.is_adalora and wrap.is_injected
            for leaf in self.origins(wrap.model)
        }

    def is_adalora_model(self, expression: ast.expr | None) -> bool:
        """Return whether a value can be a model with an adapter of AdaLoRA."""
        for leaf in self.origins(expression):
            wrap = self.wrap_of.get(leaf)
            if (wrap is not None and wrap.is_adalora) or id(leaf) in self._in_place:
                return True
            is_self = isinstance(leaf, ast.Name) and leaf.id == "self"
            owner = self.scopes.of[leaf].class_ if is_self else self.class_of_call(leaf)
            if owner is not None and self._wraps_inside(owner):
                return True
        return False

    def _wraps_inside(self, owner: ast.ClassDef) -> bool:
        known = self.scopes.bases(owner)[0]
        spend(len(self.wraps) + len(known) * len(self.scopes.attributes))
        return any(
            wrap.is_adalora and self.scopes.of[wrap.call].class_ in known for wrap in self.wraps
        ) or any(
            self.is_adalora_model(binding.value)
            for each in known
            for (name, _), bindings in list(self.scopes.attributes.items())
            for binding in bindings
            if name == each.name
            and binding.kind == "value"
            and isinstance(binding.value, ast.Name | ast.Call)
            and self.scopes.of[binding.node].class_ is each
            and self.class_of_call(binding.value) is None
        )

    def value(self, expression: ast.expr | None) -> int | None:
        """Return the number that an expression must be; None if that cannot be known."""
        if expression is None:
            return None
        known = self.script.values.of(expression)
        if type(known) is int:
            return known
        is_whole = (ast.List, ast.Tuple, ast.Dict, ast.Set)
        leaves = [expression if isinstance(e, is_whole) else e for e in self.origins(expression)]
        found = [self.script.values.of(leaf) for leaf in leaves]
        numbers = {value for value in found if type(value) is int}
        is_one = len(numbers) == 1 and all(type(value) is int for value in found)
        return numbers.pop() if is_one else None

    def framework(self, function: Function | None) -> Framework | None:
        """Return the framework that calls a method of a class of the script."""
        owner = self.scopes.parents.get(function) if function is not None else None
        if function is None or not isinstance(owner, ast.ClassDef):
            return None
        bases = self.scopes.bases(owner)[1]
        names = [name.rpartition(".")[2] for name in bases]
        if any(name.endswith("Trainer") for name in names):
            return "trainer"
        modules = {name.partition(".")[0] for name in bases}
        is_hook = "Callback" in names and not _LIGHTNING.isdisjoint(modules)
        if is_hook or "LightningModule" in names or function.name in ONLY_LIGHTNING:
            return "lightning"
        given = {each.arg for each in function.args.args}
        is_callback = any(name.endswith("TrainerCallback") for name in names)
        return "callback" if is_callback or {"args", "state", "control"} <= given else None
