"""Hold the modules of a model and what an injection makes of them, by names, dtypes and shapes."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, Literal

from adalora_core.checker.documents import read_bytes
from adalora_core.checker.plan.header import TensorInfo, read_weights
from adalora_core.floor.limits import DEFAULT_LIMITS
from adalora_core.floor.places import Path as Steps
from adalora_core.floor.rank_pattern import TENSOR_PREFIX

Kind = Literal["matrix", "convolution", "embedding", "packed", "other"]
"""The kind of a module; `packed` is a quantised matrix whose sizes are not in the header."""

_EMBEDDING = re.compile(
    r"(.*_)?embeddings?|embed_(tokens|positions|in)|tok_embeddings|wte|wpe|shared"
    r"|relative_attention_bias"
)
"""Names of modules whose two-dimensional weight is a lookup table, not a linear map."""

_OUTPUT_HEADS = frozenset({"lm_head", "embed_out", "proj_out"})
_MATRIX = 2
"""Number of dimensions of the weight of a linear layer; those of convolutions have one to three
more."""
_STACKED = frozenset({"input_linear", "output_linear"})
"""Names of modules whose three-dimensional weight is a stack of experts."""


@dataclass(frozen=True, slots=True)
class Module:
    """A module with weights, or a container of such modules; name and shape suggest the kind.

    `inputs` are the columns of A, for a convolution the entries of one filter, and `outputs` the
    rows of B. The dtype of the weight has safetensors' spelling.
    """

    path: str
    kind: Kind
    inputs: int = 0
    outputs: int = 0
    dtype: str = ""
    shape: tuple[int, ...] = ()

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
    """The model to adapt, as far as its files describe it.

    The modules by path include containers, in the order of the tensors. `model_type` is
    transformers' name of the architecture. None: no `config.json`.
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


def read_model(place: str | os.PathLike[str]) -> BaseModel:
    """Read the headers of a model's weights, and the `config.json` beside them if there is one.

    Raises:
        OSError: a file is missing or unreadable.
        ValueError: a file is damaged.
    """
    tensors = read_weights(place)
    path = Path(place)
    settings = settings_of(path if path.is_dir() else path.parent)
    text = settings.get("text_config")
    vocabulary = settings.get("vocab_size", text.get("vocab_size") if isinstance(text, dict) else 0)
    model_type = settings.get("model_type")
    return BaseModel(
        tensors,
        modules_of(tensors),
        model_type if isinstance(model_type, str) else None,
        vocabulary if isinstance(vocabulary, int) and vocabulary > 0 else None,
    )


def settings_of(folder: Path) -> dict[str, Any]:
    """Return what the `config.json` of a folder holds, nothing without one.

    Raises:
        ValueError: the file is not valid JSON.
    """
    path = folder / "config.json"
    if not path.is_file():
        return {}
    try:
        settings = json.loads(read_bytes(path, DEFAULT_LIMITS))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not valid JSON: {error}") from None
    return settings if isinstance(settings, dict) else {}


def modules_of(tensors: dict[str, TensorInfo]) -> dict[str, Module]:
    """Return every module that the names of the tensors imply, containers included.

    Example:
        >>> from adalora_core.checker.plan.header import TensorInfo
        >>> found = modules_of({"layers.0.q_proj.weight": TensorInfo("BF16", (64, 32))})
        >>> [(module.path, module.kind) for module in found.values()]
        [('layers', 'other'), ('layers.0', 'other'), ('layers.0.q_proj', 'matrix')]
    """
    modules: dict[str, Module] = {}
    for name in tensors:
        path = name.rpartition(".")[0]
        if path in modules or not path:
            continue
        new = []
        parent = path.rpartition(".")[0]
        while parent and parent not in modules:
            new.append(parent)
            parent = parent.rpartition(".")[0]
        modules |= {each: Module(each, "other") for each in reversed(new)}
        modules[path] = _module(path, tensors)
    # A container whose child came first was recorded without its own weights.
    return {
        path: _module(path, tensors) if module.kind == "other" else module
        for path, module in modules.items()
    }


def _module(path: str, tensors: dict[str, TensorInfo]) -> Module:
    if f"{path}.qweight" in tensors:
        return _packed_in_integers(path, tensors)
    weight = tensors.get(f"{path}.weight")
    name = path.rpartition(".")[2]
    if weight is None or not _MATRIX <= len(weight.shape) <= _MATRIX + 3 or name in _STACKED:
        return Module(path, "other")
    if f"{path}.weight.absmax" in tensors:
        # bitsandbytes stores four-bit weights as a column of bytes; the shape is in the data.
        return Module(path, "packed")
    outputs, *filters = weight.shape
    kind: Kind = "matrix" if len(weight.shape) == _MATRIX else "convolution"
    if kind == "matrix" and _EMBEDDING.fullmatch(name):
        kind = "embedding"
    inputs, bias = prod(filters), tensors.get(f"{path}.bias")
    if kind == "matrix" and bias is not None and bias.shape == (inputs,) != (outputs,):
        inputs, outputs = outputs, inputs  # transformers' Conv1D stores [in, out]
    return Module(path, kind, inputs, outputs, weight.dtype, weight.shape)


def _packed_in_integers(path: str, tensors: dict[str, TensorInfo]) -> Module:
    """Read the layout of GPTQ and AWQ: scales `[groups, out]` and the group of each row."""
    scales, rows = tensors.get(f"{path}.scales"), tensors[f"{path}.qweight"].shape
    order = tensors.get(f"{path}.g_idx")
    if scales is None or len(scales.shape) != _MATRIX or len(rows) != _MATRIX:
        return Module(path, "packed")
    # AWQ packs the outputs, so the rows are the inputs.
    inputs = order.shape[0] if order is not None and order.shape else rows[0]
    return Module(path, "matrix", inputs, scales.shape[1], scales.dtype)


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


AdapterKind = Literal["linear", "embedding", "convolution", "attention", "parameter"]
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
        self.path: Steps = ()


@dataclass(frozen=True, slots=True)
class Adapted:
    """A module or a parameter with an adapter.

    `tensors` are the shapes of the adapter's tensors by their names below `owner`, the path of the
    module that holds them.
    """

    path: str
    kind: AdapterKind
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
