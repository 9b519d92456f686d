"""Hold the modules of a model and what an injection makes of them, by names, dtypes and shapes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Literal

from adalora_core.checker.plan.header import TensorInfo
from adalora_core.floor.places import Path as Steps
from adalora_core.floor.rank_pattern import TENSOR_PREFIX

Kind = Literal["linear", "convolution", "embedding", "attention", "parameter", "other"]
"""The kind of a module, or of what has an adapter."""

_OUTPUT_HEADS = frozenset({"lm_head", "embed_out", "proj_out"})


@dataclass(frozen=True, slots=True)
class Module:
    """A module with weights, or a container of such modules.

    `inputs` are the columns of A, for a convolution the entries of one filter, and `outputs` the
    rows of B. The dtype of the weight has safetensors' spelling.
    """

    path: str
    kind: Kind
    inputs: int = 0
    outputs: int = 0
    dtype: str = ""

    @property
    def entries_per_rank(self) -> int:
        """Number of entries in one triplet: a row of A, a column of B and a singular value."""
        return self.inputs + self.outputs + 1

    @property
    def entry_bytes(self) -> int:
        """Bytes per entry of the adapter and its averages: 8 for float64, else 4."""
        return 8 if self.dtype == "F64" else 4

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition(".")[2]


@dataclass(frozen=True, slots=True)
class BaseModel:
    """The model to adapt; `model_type` is transformers' name of the architecture.

    The modules by path include containers.
    """

    tensors: dict[str, TensorInfo]
    modules: dict[str, Module]
    model_type: str | None = None
    vocabulary: int | None = None

    @property
    def parameters(self) -> int:
        """Number of parameters."""
        return sum(tensor.entries for tensor in self.tensors.values())

    def of_kind(self, *kinds: Kind) -> list[Module]:
        """Return the modules of the given kinds."""
        return [module for module in self.modules.values() if module.kind in kinds]

    def is_output_head(self, module: Module) -> bool:
        """Return whether name or size suggests that a matrix maps to the vocabulary."""
        return module.name in _OUTPUT_HEADS or (
            self.vocabulary is not None and module.outputs == self.vocabulary
        )


def starred(path: str) -> str:
    """Return a path with a star for each number.

    Example:
        >>> starred("model.layers.12.self_attn.q_proj")
        'model.layers.*.self_attn.q_proj'
    """
    return re.sub(r"(?<=\.)\d+(?=\.|$)|^\d+(?=\.|$)", "*", path)


def layer_of(path: str) -> int:
    """Return the first number in a path, -1 without one."""
    found = re.search(r"(?<![^.])\d{1,9}(?![^.])", path)
    return int(found[0]) if found else -1


FACTOR = ".lora_"
"""Part of the name of each tensor of an adapter."""
_OF_A_COPY = re.compile(r"\.base_layer|\.(modules_to_save|token_adapter)\..*")
"""Parts of the name of a trained tensor that PEFT has put in."""


class RefusedError(ValueError):
    """The configuration does not fit the model.

    Args:
        field: the name of the setting that does not fit.
        message: the problem, with the value.
        hint: what to do, with names of the model.

    Attributes:
        path: the place of the setting in its document.
    """

    def __init__(self, field: str, message: str, hint: str) -> None:
        super().__init__(message)
        self.field, self.message, self.hint = field, message, hint
        self.path: Steps = ()


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
