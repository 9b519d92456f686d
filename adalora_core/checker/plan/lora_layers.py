"""Give the tensors that LoRA, rsLoRA or DoRA adds to one layer or parameter, as PEFT makes them."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Literal

from adalora_core.checker.plan.adapter_tensors import PAIRS
from adalora_core.checker.plan.loaded import TRANSPOSED_EXPERTS
from adalora_core.checker.plan.matching import no_such_tokens
from adalora_core.checker.plan.mismatches import Mismatch, names_of
from adalora_core.floor.module_selection import PathEnds
from adalora_core.floor.rank_pattern import LoraScales

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from adalora_core.checker.plan.modules import BaseModel, Module
    from adalora_core.config.fields.block import Block

Kind = Literal["linear", "embedding", "convolution", "attention", "parameter"]
Shape = tuple[int, ...]

_OF_SCALES = ("r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern")
_DEPTHWISE = re.compile(r"dw|depthwise")
"""Names of convolutions that have a group for each channel; the header does not hold the groups."""
_MATRIX = 2
_PROBLEMS = 20
_EMBEDDINGS = 100


@dataclass(frozen=True, slots=True)
class Adapted:
    """A module or a parameter with an adapter.

    `tensors` are the shapes of the adapter's tensors by their names below `owner`, the path of the
    module that PEFT puts them into.
    """

    path: str
    kind: Kind
    rank: int
    alpha: float
    scale: float
    tensors: Mapping[str, Shape]
    dtype: str
    owner: str

    @property
    def entries(self) -> int:
        """Number of trained numbers."""
        return sum(map(prod, self.tensors.values()))


def dtype_of(base: str) -> str:
    """Return the dtype of an adapter by that of the weight; PEFT makes half precision float32."""
    return "F64" if base == "F64" else "F32"


class Layers:
    """The layers that a configuration adapts, one after the other.

    `problems` are reasons why PEFT refuses layers; at most 20 are kept.
    """

    def __init__(self, block: Block, model: BaseModel) -> None:
        self.block, self.model = block, model
        self.problems: list[Mismatch] = []
        self._saved = PathEnds(block["modules_to_save"] or ())
        self._scales = LoraScales({name: block[name] for name in _OF_SCALES})

    def unused_patterns(self) -> Iterator[str]:
        """Yield a note for each key of a pattern that no layer has its value from."""
        fields = ("rank_pattern", "alpha_pattern")
        keys = [(field, key) for field in fields for key in self.block[field] or ()]
        unused = (each for each in keys if each not in self._scales.used)
        return (f"{field}: {key!r} gives no module its value" for field, key in unused)

    def refuse(self, field: str, message: str, hint: str) -> None:
        """Keep a problem."""
        if len(self.problems) < _PROBLEMS:
            self.problems.append(Mismatch(field, message, hint))

    def of_module(self, module: Module) -> Iterator[Adapted]:
        """Yield what PEFT makes of a module; of an attention of torch two adapters."""
        path, block = module.path, self.block
        attention = self.model.tensors.get(f"{path}.in_proj_weight")
        if module.kind == "embedding":
            if block["lora_bias"]:
                self.refuse("lora_bias", f"{path} is an embedding: no lora_bias", "exclude it")
            inputs, outputs = module.shape
            yield self._made(path, "embedding", inputs, outputs, module.dtype)
        elif module.kind == "convolution":
            yield self._of_convolution(module)
        elif module.kind == "matrix":
            yield self._made(path, "linear", module.inputs, module.outputs, module.dtype)
        elif attention is not None and attention.shape[0] == 3 * attention.shape[1]:
            if block["use_dora"]:
                self.refuse("use_dora", f"{path} is an attention of torch: no DoRA", "exclude it")
            if self._saved.end_of(f"{path}.out_proj") is not None:
                message = f"{path} is an attention whose out_proj modules_to_save copies"
                self.refuse("modules_to_save", message, "remove one of the two")
            triple, width = attention.shape
            yield self._made(path, "attention", width, triple, attention.dtype)
            inner = f"{path}.base_layer.out_proj"
            yield self._made(path, "linear", width, width, attention.dtype, owner=inner)
        elif module.kind == "packed":
            hint = "plan with the weights of the model before quantisation"
            self.refuse("target_modules", f"{path} is packed by quantisation", hint)
        else:
            hint = f"exclude it, or name other modules; {names_of(self.model)}"
            self.refuse("target_modules", f"{path} is not a layer that LoRA adapts", hint)

    def of_parameter(self, name: str, targeted: Collection[str], depth: int) -> Iterator[Adapted]:
        """Yield what PEFT makes of one of `target_parameters`, before `depth` of its module."""
        path, _, _ = name.rpartition(".")
        info = self.model.tensors[name]
        if why := self._why_no_parameter(path, info.shape, targeted):
            message = f"PEFT cannot adapt the parameter {name}: {why}"
            self.refuse("target_parameters", message, "change that, or remove it from the targets")
            return
        count, inputs, outputs = (
            (1, *info.shape[::-1]) if len(info.shape) == _MATRIX else info.shape
        )
        if len(info.shape) > _MATRIX and self.model.model_type not in TRANSPOSED_EXPERTS:
            inputs, outputs = outputs, inputs
        owner = path + ".base_layer" * depth
        yield self._made(name, "parameter", inputs, outputs, info.dtype, owner=owner, count=count)

    def tokens(self, adapted: set[str]) -> dict[str, int]:
        """Return the number of the rows that are trained, by the path of their embedding."""
        value, saved = self.block["trainable_token_indices"], self.block["modules_to_save"] or ()
        if isinstance(value, dict) and len(value) > _EMBEDDINGS:
            message = f"{len(value)} embeddings are too many for a plan"
            self.refuse("trainable_token_indices", message, f"name {_EMBEDDINGS} at most")
            return {}
        if not value:
            return {}
        self.problems += no_such_tokens(value, self.model)
        if isinstance(value, list):
            value = {self.model.words.path if self.model.words else "embed_tokens": value}
        found: dict[str, int] = {}
        for name, tokens in value.items():
            paths = [each.path for each in self.model.modules.values() if each.path.endswith(name)]
            found |= dict.fromkeys(paths, len(tokens))
            if name in saved or not adapted.isdisjoint(paths):
                message = f"PEFT trains no tokens of {name!r}, which has an adapter or is copied"
                self.refuse("trainable_token_indices", message, "remove one of the two")
        return found

    def _why_no_parameter(self, path: str, shape: Shape, targeted: Collection[str]) -> str | None:
        if not path:
            return "it is one of the whole model"
        if path in targeted:
            return f"target_modules adapts {path} too"
        if len(shape) not in (_MATRIX, _MATRIX + 1):
            return f"it has {len(shape)} dimensions, not 2 or 3"
        settings = ("lora_dropout", "fan_in_fan_out", "lora_bias", "use_dora", "velora_config")
        wrong = next((each for each in settings if self.block[each]), None)
        return wrong and f"{wrong} is set"

    def _of_convolution(self, module: Module) -> Adapted:
        outputs, inputs, *kernel = module.shape
        groups = outputs if inputs == 1 and _DEPTHWISE.search(module.path) else 1
        found = self._made(module.path, "convolution", inputs * groups, outputs, module.dtype)
        if found.rank % groups or (groups > 1 and self.block["use_dora"]):
            what = f"has {groups} groups: PEFT needs a multiple of that as rank, and no DoRA"
            self.refuse("target_modules", f"{module.path} {what}", "exclude it")
        ones = (1,) * len(kernel)
        A, B = (found.rank, inputs * groups, *kernel), (outputs, found.rank // groups, *ones)
        shapes: dict[str, Shape] = dict(zip(PAIRS[0], (A, B), strict=True))
        if self.block["use_dora"]:
            shapes["lora_magnitude_vector"] = (1, outputs, *ones)
        return replace(found, tensors={**found.tensors, **shapes})

    def _made(
        self, path: str, kind: Kind, inputs: int, outputs: int, dtype: str, *,
        owner: str | None = None, count: int = 1,
    ) -> Adapted:  # fmt: skip
        block = self.block
        rank, alpha, scale = self._scales.of(path)
        names = PAIRS[kind == "embedding"]
        shapes = (rank * count, inputs), (outputs, rank * count)
        tensors: dict[str, Shape] = dict(zip(names, shapes, strict=True))
        if block["lora_bias"]:
            tensors["lora_B.bias"] = (outputs,)
        if block["use_dora"]:
            tensors["lora_magnitude_vector"] = (outputs,)
        return Adapted(path, kind, rank, alpha, scale, tensors, dtype_of(dtype), owner or path)
