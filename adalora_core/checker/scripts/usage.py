"""Describe how a script uses AdaLoRA: adapters, trainings, allocations and their order."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from adalora_core.checker.documents.python.script import CLASS, LORA_CLASS, find_loads
from adalora_core.checker.documents.python.syntax import (
    Function,
    called_name,
    keyword,
    last_name,
    passed,
)
from adalora_core.checker.scripts.events import Event, traces
from adalora_core.checker.scripts.frameworks import ONLY_LIGHTNING, WRAPPERS, Framework
from adalora_core.checker.scripts.sources import Sources

if TYPE_CHECKING:
    from adalora_core.checker.documents.python.origins import Entries
    from adalora_core.checker.documents.python.script import Script


_Found = TypeVar("_Found")
_LIGHTNING = frozenset({"lightning", "pytorch_lightning", "pl", "L"})


@dataclass(frozen=True, eq=False)
class Wrap:
    """A call that adds an adapter to a model, or of a trainer that is given a configuration.

    `is_adalora` is whether the configuration can be AdaLoRA's.
    """

    call: ast.Call
    model: ast.expr | None
    config: ast.expr | None
    is_adalora: bool

    @property
    def is_injected(self) -> bool:
        """Whether the adapter is put into a model that is not wrapped."""
        return called_name(self.call) in {"add_adapter", "inject_adapter_in_model"}


class Usage(Sources):
    """The use of AdaLoRA in a script: what its values come from, and what is known of them.

    Args:
        script: the script.
        of_lora: whether the use of plain LoRA is meant wherever AdaLoRA is named here.
    """

    def __init__(self, script: Script, *, of_lora: bool = False) -> None:
        super().__init__(script.scopes)
        self.script = script
        self.of_lora = of_lora
        loads = [] if of_lora else find_loads(script.values, CLASS)
        self.configurations = script.lora_calls if of_lora else [*script.calls, *loads]
        self._class = LORA_CLASS if of_lora else CLASS
        self._read: dict[Any, Any] = {}
        self.traces = traces(self, script.tree)

    def events(self, *kinds: str) -> Iterator[Event]:
        """Yield the events of some kinds, each node once for each way that leads there."""
        for trace in self.traces:
            yield from trace.of(*kinds)

    def makes_config(self, call: ast.expr) -> bool:
        """Return whether an expression makes a configuration of AdaLoRA."""
        if not isinstance(call, ast.Call):
            return False
        name = last_name(call.func)
        if name == "from_pretrained":
            return any(call is each.node for each in self.configurations)
        words = self.mentions(keyword(call, at=0), ast.Constant)
        if name == "get_peft_config" and any(str(w.value).upper() == "ADALORA" for w in words):
            return True
        if name == "get_peft_config" or "Config" in name:
            return self._is_config_class(call.func)
        return any(self._is_config_class(leaf) for leaf in self.origins(call.func))

    def _is_config_class(self, node: ast.expr) -> bool:
        name = self.scopes.own_name(node)
        owner = self.scopes.classes.get(name)
        names = [name] if owner is None else self.scopes.bases(owner)[1]
        return self._class in (each.rpartition(".")[2] for each in names)

    @cached_property
    def wraps(self) -> list[Wrap]:
        """The calls that add an adapter."""
        found = []
        for call in self.scopes.calls:
            name = self.scopes.own_name(call.func)
            is_trainer = keyword(call, "peft_config") is not None and name.endswith("Trainer")
            if name == "add_adapter" and isinstance(call.func, ast.Attribute):
                config = next(filter(self._is_config, passed(call)), None)
                found.append(Wrap(call, call.func.value, config, config is not None))
            elif name in WRAPPERS or is_trainer:
                model_at, config_at = WRAPPERS.get(name, (0, None))
                config = keyword(call, "peft_config") or keyword(call, "config", at=config_at)
                model = keyword(call, "model", at=model_at)
                found.append(Wrap(call, model, config, self._is_config(config)))
        return found

    def _is_config(self, config: ast.expr | None) -> bool:
        return any(map(self.makes_config, self.origins(config)))

    def once(self, read: Callable[..., _Found], *nodes: ast.AST) -> _Found:
        """Return what a function reads from the script, or from nodes of it; it is called once."""
        key = read, *nodes
        if key not in self._read:
            self._read[key] = read(self, *nodes)
        found: _Found = self._read[key]
        return found

    @cached_property
    def wrap_of(self) -> dict[ast.AST, Wrap]:
        """The adapter that a call adds."""
        return {wrap.call: wrap for wrap in self.wraps}

    def wraps_alone(self, model: ast.expr | None) -> list[Wrap]:
        """Return the adapters of a value; none if it can be anything but an AdaLoRA model."""
        wraps = [self.wrap_of.get(leaf) for leaf in self.origins(model)]
        found = [wrap for wrap in wraps if wrap is not None and wrap.is_adalora]
        return found if len(found) == len(wraps) else []

    @cached_property
    def our_names(self) -> list[str]:
        """The full names that are imported from this package."""
        return [name for name in self.scopes.imports if name.partition(".")[0] == "adalora_core"]

    @cached_property
    def is_called_for(self) -> bool:
        """Whether this package calls `update_and_allocate` where the script does not."""
        switch = "allocate_automatically"
        doors = ("adalora_core.peft", "adalora_core.get_peft_model", "adalora_core.bridge")
        return switch not in self.imported | self.scopes.callers.keys() and any(
            name.startswith(doors) for name in self.our_names
        )

    @cached_property
    def stored(self) -> set[str]:
        """The attributes that a statement assigns, of whatever object."""
        nodes = (node for node in self.scopes.of if isinstance(node, ast.Attribute))
        return {node.attr for node in nodes if isinstance(node.ctx, ast.Store)}

    @cached_property
    def imported(self) -> set[str]:
        """The last parts of the full names of what is imported."""
        return {name.rpartition(".")[2] for name in self.scopes.imports}

    def arguments(self, name: str) -> Iterator[tuple[ast.AST, ast.expr]]:
        """Yield an argument of each configuration: the node of its name, and its value."""
        for key, value in (
            call.entries[name] for call in self.script.calls if name in call.entries
        ):
            if value is not None:
                yield key, value

    def totals(self) -> list[tuple[ast.AST, ast.expr]]:
        """Return the arguments `total_step`; none if a statement assigns such a field."""
        return [] if "total_step" in self.stored else list(self.arguments("total_step"))

    def settings(self, *names: str) -> Iterator[ast.expr]:
        """Yield what any call passes by one of some keywords."""
        return (value for name, value in self._settings if name in names)

    @cached_property
    def _settings(self) -> list[tuple[str | None, ast.expr]]:
        return [(k.arg, k.value) for call in self.scopes.calls for k in call.keywords]

    def keywords(self, call: ast.Call) -> dict[str, ast.expr]:
        """Return the keyword arguments of a call, those of a known `**mapping` included."""
        found: dict[Any, ast.expr] = {}
        for each in call.keywords:
            given: Entries = {each.arg: (each, each.value)}
            if each.arg is None:
                given = self.script.values.entries(each.value)
            found |= {name: value for name, (_, value) in given.items() if value is not None}
        return found

    def is_adalora_model(self, expression: ast.expr | None) -> bool:
        """Return whether a value can be a model with an adapter of AdaLoRA."""
        for leaf in self.origins(expression):
            wrap = self.wrap_of.get(leaf)
            if wrap is not None and wrap.is_adalora:
                return True
            is_self = isinstance(leaf, ast.Name) and leaf.id == "self"
            owner = self.scopes.of[leaf].class_ if is_self else self.class_of_call(leaf)
            known = [] if owner is None else self.scopes.bases(owner)[0]
            if any(w.is_adalora and self.scopes.of[w.call].class_ in known for w in self.wraps):
                return True
        return False

    def value(self, expression: ast.expr | None) -> int | None:
        """Return the number that an expression must be; None if that cannot be known."""
        known = None if expression is None else self.script.values.of(expression)
        if expression is None or type(known) is int:
            return known
        is_whole = (ast.List, ast.Tuple, ast.Dict, ast.Set)
        leaves = [expression if isinstance(e, is_whole) else e for e in self.origins(expression)]
        found = [self.script.values.of(leaf) for leaf in leaves]
        is_one = all(type(value) is int for value in found) and len({*found}) == 1
        return found[0] if is_one else None

    def framework(self, function: Function | None) -> Framework | None:
        """Return the framework that calls a method of a class of the script."""
        owner = None if function is None else self.scopes.parents.get(function)
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
