"""Compare the tensors of a saved LoRA adapter with its configuration, and with its base model.

The header of the file is read, and the first bytes of each factor. Without a base model a module of
the file is right if the configuration means its path. Names of a base model's weights are not
always those of its modules: a class adds a prefix, and transformers renames. So a layer is compared
with a base model only where both have layers of its kind.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from adalora_core.checker.plan.header import TensorInfo, read_header
from adalora_core.floor.errors import ExpressionError
from adalora_core.floor.module_selection import ModuleSelection, is_all_linear
from adalora_core.floor.rank_pattern import TENSOR_PREFIX, LoraScales
from adalora_core.floor.regular_files import open_regular_file

if TYPE_CHECKING:
    from adalora_core.checker.plan.modules import BaseModel, Module

    Factors = dict[str, TensorInfo]
    OfBase = defaultdict[str, defaultdict[str, list[Module]]]
    """By the kinds of paths and by their ends the modules of a base model."""

WEIGHTS = "adapter_model.safetensors"

Kind = Literal["missing", "left-over", "shape", "zero", "not-finite"]

_FACTOR = re.compile(
    r"(?:(.+)\.)?(lora_(?:[AB]|embedding_[AB]|magnitude_vector))(?:\.default)?(\.weight|\.bias|)"
)
"""PEFT loads names with its own name of an adapter, `default`, as well."""
_UNUSUAL = (
    "arrow_config", "kasa_config", "layer_replication", "megatron_config", "monteclora_config",
    "target_parameters", "use_bdlora", "use_qalora", "velora_config",
)  # fmt: skip
"""Settings with other names and shapes of tensors, or other layers than the base model has."""
_MATRIX = 2
_READ = 1 << 16
"""The bytes at the begin of a factor that are looked at for numbers that are not finite."""
_SIZES = {"BF16": 2, "F16": 2, "F32": 4, "F64": 8}
_EXPONENTS = {"BF16": 0x7F80, "F16": 0x7C00, "F32": 0x7F80_0000, "F64": 0x7FF0 << 48}
_SHARDS = "adapter_model*.safetensors*"
_HINTS: dict[Kind, str] = {
    "missing": "PEFT gives it fresh values and at most warns; save the adapter again, or load it "
    "from an earlier checkpoint",
    "left-over": "PEFT ignores it without a word; name the module in target_modules, or write the "
    "names as PEFT does",
    "shape": "PEFT refuses to load it; use the configuration of the run that saved the tensors, "
    "and its base model",
    "zero": "PEFT loads it without a word; train its factors: an optimizer that holds them, steps "
    "that run, gradients that arrive, and save after them",
    "not-finite": "PEFT loads it without a word; go back to a checkpoint before the loss became "
    "NaN, and train on with a smaller learning rate",
}


@dataclass(frozen=True, slots=True)
class TensorFault:
    """What is wrong with some tensors of an adapter.

    Args:
        kind: the kind of fault; of each there is one at most.
        names: the tensors, as in the file, or the modules where a kind concerns modules.
        message: the fault of the first one, and how many more there are.
        hint: what PEFT does when it loads the adapter, and what to do.
    """

    kind: Kind
    names: tuple[str, ...]
    message: str
    hint: str


class SavedLora:
    """The tensors of a saved LoRA adapter.

    Args:
        folder: the folder with `adapter_model.safetensors`.
        values: the fields of its configuration.

    Attributes:
        modules: `{module path: {factor: tensor}}`; a factor is `lora_A.weight`, for example.
        others: the tensors beside them by their names, without PEFT's prefix.
        odd: names that PEFT does not write.

    Raises:
        OSError: the file is missing or unreadable.
        ValueError: the file is damaged, in parts, or of another format.
    """

    def __init__(self, folder: str | os.PathLike[str], values: Mapping[str, Any]) -> None:
        self.path, self.values = Path(folder) / WEIGHTS, values
        if not self.path.exists() and (why := _other_form(Path(folder))):
            raise ValueError(f"{os.fspath(folder)}: {why}")
        self.modules: dict[str, Factors] = {}
        self.others: Factors = {}
        self.odd: list[str] = []
        is_usual = not any(map(values.get, _UNUSUAL))
        for name, info in read_header(self.path).items():
            path = name.removeprefix(TENSOR_PREFIX)
            found = _FACTOR.fullmatch(path)
            if path == name or (".lora_" in path and not found and is_usual):
                self.odd.append(name)
            elif found:
                end = found[3] if found[2] in {"lora_A", "lora_B"} else ""
                self.modules.setdefault(found[1] or "", {})[found[2] + end] = info
            else:
                self.others[path] = info

    def faults(self, model: BaseModel | None = None) -> list[TensorFault]:
        """Return what is wrong with the tensors, one fault of a kind at most.

        Raises:
            OSError: the file cannot be read.
        """
        found: defaultdict[Kind, dict[str, str]] = defaultdict(dict)
        checks = [self._left_over(), self._incomplete(), self._of_other_shapes(), self._unmoved()]
        if model is not None and not any(map(self.values.get, _UNUSUAL)):
            checks.append(_beside(self, model))
        for kind, name, what in (each for check in checks for each in check):
            found[kind].setdefault(name, what)
        return [
            TensorFault(kind, tuple(names), _counted([*names.values()], kind, self), _HINTS[kind])
            for kind, names in found.items()
        ]

    def shapes(self, path: str) -> tuple[TensorInfo, TensorInfo] | None:
        """Return A and B of a module, or None if one is missing or has another form."""
        factors = self.modules[path]
        pairs = ("lora_A.weight", "lora_B.weight"), ("lora_embedding_A", "lora_embedding_B")
        for a, b in pairs:
            if a in factors and b in factors:
                A, B = factors[a], factors[b]
                return (A, B) if min(len(A.shape), len(B.shape)) >= _MATRIX else None
        return None

    def _left_over(self) -> Iterator[tuple[Kind, str, str]]:
        for name in self.odd:
            why = "PEFT's names begin with base_model.model."
            if name.startswith(TENSOR_PREFIX):
                why = "no factor of LoRA has such a name"
            yield "left-over", name, f"{name!r} fits no module: {why}"
        selection = _selection(self.values, self.values.get("target_modules"))
        if self.values.get("target_parameters"):
            selection = None
        for path, factors in self.modules.items():
            outer, inside, _ = f"{path}.".partition(".base_layer.")
            # PEFT adapts a tied head with its embedding, and what torch's attention holds with it.
            if self.values.get("ensure_weight_tying") and _layer(path) < 0:
                continue
            if selection and not _holds(selection, outer if inside else path):
                what = f"the tensors of {path!r} fit no module: target_modules leaves it out"
                yield "left-over", f"{TENSOR_PREFIX}{path}", what
            for factor, field in _BY_FIELD.items():
                if factor in factors and not self.values.get(field):
                    name = f"{TENSOR_PREFIX}{path}.{factor}"
                    yield "left-over", name, f"{name!r} fits no module: {field} is not set"

    def _incomplete(self) -> Iterator[tuple[Kind, str, str]]:
        if any(map(self.values.get, _UNUSUAL)):
            return
        for path, factors in self.modules.items():
            pair = {"lora_A.weight", "lora_B.weight"}
            if any("embedding" in each for each in factors):
                pair = {"lora_embedding_A", "lora_embedding_B"}
            wanted = pair | {each for each, field in _BY_FIELD.items() if self.values.get(field)}
            if "lora_embedding_A" in pair:
                wanted.discard("lora_B.bias")
            for factor in sorted(wanted - factors.keys()):
                name = f"{TENSOR_PREFIX}{path}.{factor}"
                yield "missing", name, f"the tensor {name!r} is missing"

    def _of_other_shapes(self) -> Iterator[tuple[Kind, str, str]]:
        scales = LoraScales(self.values)
        for path in self.modules:
            if (pair := self.shapes(path)) is None or any(map(self.values.get, _UNUSUAL)):
                continue
            A, B = pair
            ranks = A.shape[0], B.shape[1]
            # B of a grouped convolution has a part of the rank.
            is_part = len(A.shape) > _MATRIX and ranks[1] > 0 and not ranks[0] % ranks[1]
            if ranks[0] != ranks[1] and not is_part:
                yield "shape", path, f"{path!r} has factors of ranks {ranks[0]} and {ranks[1]}"
                continue
            try:
                told = scales.of(path).rank
            except ExpressionError:
                return  # the rules on expressions speak of them
            except ValueError as error:
                yield "shape", path, f"{path!r} {error}"
                continue
            if told != ranks[0]:
                what = f"has tensors of rank {ranks[0]}, and the configuration gives rank {told}"
                yield "shape", path, f"{path!r} {what}"

    def _unmoved(self) -> Iterator[tuple[Kind, str, str]]:
        with os.fdopen(open_regular_file(self.path), "rb") as file:

            def read(info: TensorInfo) -> Iterator[bytes]:
                """Yield a tensor in parts of which each holds whole numbers."""
                file.seek(info.begin)
                left = info.entries * _SIZES[info.dtype]
                while left > 0 and (part := file.read(min(left, _READ))):
                    left -= len(part)
                    yield part

            for path, factors in self.modules.items():
                known = {each: info for each, info in factors.items() if info.dtype in _SIZES}
                for factor, info in known.items():
                    if _is_not_finite(next(read(info), b""), info.dtype):
                        name = f"{TENSOR_PREFIX}{path}.{factor}"
                        what = f"the tensor {name!r} holds numbers that are not finite"
                        yield "not-finite", name, what
                if "lora_magnitude_vector" in factors or self.shapes(path) is None:
                    continue  # a magnitude of DoRA changes a layer by itself
                matrices = [i for each, i in known.items() if "lora_B.bias" not in each]
                bias = known.get("lora_B.bias")
                still = any(_is_zero(read(info), info.dtype) for info in matrices)
                if still and (bias is None or _is_zero(read(bias), bias.dtype)):
                    yield "zero", path, f"{path!r} changes nothing: a factor of it is all zero"


_BY_FIELD = {"lora_magnitude_vector": "use_dora", "lora_B.bias": "lora_bias"}
"""Factors that a field of the configuration adds."""


def _other_form(folder: Path) -> str | None:
    """Return why a folder without the usual file cannot be judged, None if it has no weights."""
    if (folder / "adapter_model.bin").exists():
        return (
            "adapter_model.bin is a pickle, which is not opened; load the adapter with PEFT and "
            "save it again as safetensors"
        )
    if any(folder.glob(_SHARDS)):
        return (
            f"the tensors are in parts, which PEFT does not load as an adapter; save them as one "
            f"{WEIGHTS}"
        )
    return None


def _counted(messages: list[str], kind: Kind, saved: SavedLora) -> str:
    if kind == "zero" and len(messages) == len(saved.modules):
        return (
            f"the adapter changes nothing: a factor of each of its {len(messages)} modules is all "
            "zero" + (", only other tensors beside them may differ" if saved.others else "")
        )
    more = len(messages) - 1
    return messages[0] + (f" (and {more} more)" if more else "")


def _selection(values: Mapping[str, Any], targets: Any) -> ModuleSelection | None:
    """Return what `targets` select, or None for a value that names no paths."""

    def names(value: Any) -> bool:
        return isinstance(value, str) or (
            isinstance(value, list) and all(isinstance(each, str) for each in value)
        )

    layers, pattern = values.get("layers_to_transform"), values.get("layers_pattern")
    exclude = values.get("exclude_modules")
    are_layers = isinstance(layers, int | None) or (
        isinstance(layers, list) and all(isinstance(each, int) for each in layers)
    )
    if not targets or not names(targets) or is_all_linear(targets) or not are_layers:
        return None
    if not all(each is None or names(each) for each in (exclude, pattern)):
        return None
    return ModuleSelection(targets, exclude, layers, pattern)


def _holds(selection: ModuleSelection, path: str) -> bool:
    try:
        return selection.includes(path) and not selection.is_named_by_exclude(path)
    except (ExpressionError, re.error):
        return True  # the rules on expressions speak of them


def _is_zero(parts: Iterator[bytes], dtype: str) -> bool:
    """Return whether all numbers are zero; minus zero is one."""
    size = _SIZES[dtype]
    return all(
        not part[size - 1 :: size].strip(b"\0\x80")
        and not any(part[place::size].strip(b"\0") for place in range(size - 1))
        for part in parts
    )


def _is_not_finite(part: bytes, dtype: str) -> bool:
    """Return whether a number has the exponent of infinity and NaN."""
    size, exponent = _SIZES[dtype], _EXPONENTS[dtype]
    top = exponent >> 8 * (size - 1)
    high = {each for each in {*part[size - 1 :: size]} if each & top == top}
    if not high or size == 1:
        return False
    numbers = (part[place : place + size] for place in range(0, len(part), size))
    return any(
        each[-1] in high and int.from_bytes(each, "little") & exponent == exponent
        for each in numbers
    )


def _beside(saved: SavedLora, model: BaseModel) -> Iterator[tuple[Kind, str, str]]:
    """Yield layers that only the file or only the base model has, and those of other sizes."""
    of_base: OfBase = defaultdict(lambda: defaultdict(list))
    for path, module in model.modules.items():
        if module.kind in {"matrix", "convolution", "packed"}:
            of_base[_kind(path)][_split(path)[1]].append(module)
    stems, layers = set(), defaultdict[str, set[str]](set)
    for path in saved.modules:
        stem, tail = _split(path)
        stems.add(stem)
        layers[_kind(path)].add(tail)
        if _kind(path) not in of_base or ".base_layer." in f"{path}.":
            continue
        if not (alike := of_base[_kind(path)].get(tail, [])):
            what = f"the tensors of {path!r} fit no module: the base model has no such layer"
            yield "left-over", f"{TENSOR_PREFIX}{path}", what
        elif not any(_fits(saved, path, each, model) for each in alike):
            sizes = f"{alike[0].inputs} to {alike[0].outputs}"
            yield "shape", path, f"{path!r} has no factors for a layer {sizes}, as the base has"
    yield from _absent(saved, of_base, stems, layers)


def _absent(
    saved: SavedLora, of_base: OfBase, stems: set[str], layers: Mapping[str, set[str]]
) -> Iterator[tuple[Kind, str, str]]:
    """Yield targets of the base model that the file lacks, up to the last layer that it has."""
    targets = saved.values.get("target_modules")
    selection = _selection(saved.values, targets)
    if selection is None and not is_all_linear(targets):
        return
    last = max((_layer(tail) for tails in layers.values() for tail in tails), default=-1)
    # Otherwise transformers gives the layers other names than the file of the base model has.
    is_known = all(kind in of_base for kind in layers if _layer(kind.replace("#", "0")) >= 0)
    for kind, tails in of_base.items():
        # Experts may be one tensor in the model, and matrices in its file.
        if kind not in layers and (selection is None or not is_known or ".experts." in f".{kind}."):
            continue
        sources = {_split(each.path)[0] for modules in tails.values() for each in modules}
        for tail, modules in tails.items():
            if not 0 <= _layer(tail) <= last or tail in layers.get(kind, ()):
                continue
            for path in (each.path for each in modules):
                is_there = len(sources) == 1 or _split(path)[0] in stems
                if is_there and (selection is None or _holds(selection, path)):
                    what = f"the tensors of {path!r}, a target, are missing"
                    yield "missing", f"{TENSOR_PREFIX}{path}", what


def _fits(saved: SavedLora, path: str, module: Module, model: BaseModel) -> bool:
    pair = saved.shapes(path)
    if pair is None or module.kind == "packed" or model.is_output_head(module):
        return True
    inputs, outputs = prod(pair[0].shape[1:]), pair[1].shape[0]
    if module.kind == "convolution":  # a group of it holds a part of the inputs
        return outputs == module.outputs and module.inputs > 0 and not inputs % module.inputs
    # GPT-2's layers hold the transposed matrix.
    return (inputs, outputs) in {
        (module.inputs, module.outputs),
        (module.outputs, module.inputs),
    }


def _split(path: str) -> tuple[str, str]:
    """Return a path before and from the name of its first list, `model` and `layers.0.q_proj`."""
    parts = path.split(".")
    first = next((place for place, part in enumerate(parts) if part.isdecimal()), len(parts))
    begin = max(0, first - 1)
    return ".".join(parts[:begin]), ".".join(parts[begin:])


def _kind(path: str) -> str:
    return re.sub(r"(?<![^.])\d+(?![^.])", "#", _split(path)[1])


def _layer(tail: str) -> int:
    found = re.search(r"(?<![^.])\d{1,9}(?![^.])", tail)
    return int(found[0]) if found else -1
