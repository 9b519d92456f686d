"""Hold the result of an injection as plain numbers: adapted modules, trained and saved tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, Literal

from adalora_core.floor.rank_pattern import TENSOR_PREFIX

if TYPE_CHECKING:
    from adalora_core.checker.plan.header import TensorInfo
    from adalora_core.checker.plan.modules import BaseModel, Module
    from adalora_core.floor.places import Path

Kind = Literal["linear", "embedding", "convolution", "attention", "parameter"]
FACTOR = ".lora_"
"""Part of the name of each tensor of an adapter."""
_OF_A_COPY = re.compile(r"\.base_layer|\.(modules_to_save|token_adapter)\..*")
"""Parts of the name of a trained tensor that PEFT has put in."""


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A setting that does not fit the model.

    Args:
        field: the name of the setting.
        message: the problem, with the value.
        hint: what to do, with names of the model.
    """

    field: str
    message: str
    hint: str


class RefusedError(ValueError):
    """The configuration does not fit the model; `problem` has the reason, `path` its place."""

    def __init__(self, problem: Mismatch) -> None:
        super().__init__(problem.message)
        self.problem = problem
        self.path: Path = ()


@dataclass(frozen=True, slots=True)
class Adapted:
    """A module or a parameter with an adapter.

    `tensors` are the shapes of the adapter's tensors by their names below `owner`, the path of the
    module that holds them.
    """

    path: str
    kind: Kind
    rank: int
    alpha: float
    scale: float
    tensors: Mapping[str, tuple[int, ...]]
    dtype: str
    owner: str

    @property
    def entries(self) -> int:
        """Number of trained numbers."""
        return sum(map(prod, self.tensors.values()))


@dataclass(frozen=True, slots=True)
class Injected:
    """What an injection makes of a model.

    `file` are the saved tensors by their names, `carried` those of them that are not trained, and
    `trained` the trained ones by their names in the model. `missed` are usual targets of the
    architecture without an adapter, and `asked` is the package that injects, with its release.
    """

    model: BaseModel
    adapted: tuple[Adapted, ...] = ()
    file: Mapping[str, TensorInfo] = field(default_factory=dict)
    trained: Mapping[str, TensorInfo] = field(default_factory=dict)
    carried: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    missed: tuple[Module, ...] = ()
    asked: str = ""

    @property
    def matrices(self) -> tuple[Module, ...]:
        """The adapted modules."""
        return tuple(self.model.modules[each.path] for each in self.adapted)

    @property
    def count(self) -> int:
        """Number of numbers that are trained."""
        return sum(each.entries for each in self.trained.values())

    @property
    def beside(self) -> int:
        """Number of trained numbers that are in no adapter."""
        found = self.trained.items()
        return sum(each.entries for name, each in found if FACTOR not in name)

    @property
    def whole(self) -> list[str]:
        """The modules that are trained as a whole, and single parameters such as biases."""
        names = (name.removeprefix(TENSOR_PREFIX) for name in self.trained if FACTOR not in name)
        return list(dict.fromkeys(_OF_A_COPY.sub("", name) for name in names))

    @property
    def training_bytes(self) -> int:
        """Bytes of what is trained, its gradients and the two moments of AdamW."""
        return 4 * sum(each.data_bytes for each in self.trained.values())
