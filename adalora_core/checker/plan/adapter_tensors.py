"""Compare the tensors of a saved LoRA adapter with its configuration, and with its base model.

The header of the file is read, and the first bytes of each factor.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from adalora_core.checker.plan.header import TensorInfo, read_header
from adalora_core.checker.plan.modules import layer_of
from adalora_core.config.fields.block import Block
from adalora_core.config.findings import Severity
from adalora_core.config.rules.base import Rule
from adalora_core.config.rules.runs import (
    AdapterChangesNothing,
    ParametersNotFinite,
    TensorsDoNotFit,
)
from adalora_core.floor.errors import ExpressionError
from adalora_core.floor.files import open_regular_file
from adalora_core.floor.module_selection import (
    ModuleSelection,
    ends_with,
    is_all_linear,
    lacks_all_of,
    saved_module_names,
)
from adalora_core.floor.rank_pattern import TENSOR_PREFIX, LoraScale, LoraScales, foreign_format

Factors = dict[str, TensorInfo]

WEIGHTS = "adapter_model.safetensors"

Kind = Literal["missing", "unsaved", "left-over", "shape", "zero", "not-finite", "not-matched"]

_FACTOR = re.compile(
    r"(?:(.+)\.)?(lora_(?:[AB]|embedding_[AB]|magnitude_vector))(?:\.default)?(\.weight|\.bias|)"
)
"""PEFT loads names with its own name of an adapter, `default`, as well."""
_UNUSUAL = (
    "arrow_config", "kasa_config", "layer_replication", "megatron_config", "monteclora_config",
    "target_parameters", "use_bdlora", "use_qalora", "velora_config",
)  # fmt: skip
"""Settings with other names and shapes of tensors, or other layers than the base model has."""
PAIRS = ("lora_A.weight", "lora_B.weight"), ("lora_embedding_A", "lora_embedding_B")
_BY_FIELD = {"lora_magnitude_vector": "use_dora", "lora_B.bias": "lora_bias"}
"""Factors that a field of the configuration adds."""
_MATRIX = 2
_PART = 1 << 16
"""The bytes of a factor that are read together."""
_BEGIN = 1 << 13
"""The bytes of a factor that are looked at for numbers that are not finite."""
_SIZES = {"BF16": 2, "F16": 2, "F32": 4, "F64": 8}
_EXPONENTS = {"BF16": 0x7F80, "F16": 0x7C00, "F32": 0x7F80_0000, "F64": 0x7FF0 << 48}
_HINTS: dict[Kind, str] = {
    "missing": "PEFT gives it fresh values and at most warns; save the adapter again, or load it "
    "from an earlier checkpoint",
    "unsaved": "PEFT raises a KeyError when it loads the adapter; save the adapter again with "
    "save_pretrained, or load it from an earlier checkpoint",
    "left-over": "PEFT ignores it without a word; name the module in target_modules, or write the "
    "names as PEFT does",
    "shape": "PEFT refuses to load it; use the configuration of the run that saved the tensors, "
    "and its base model",
    "zero": "PEFT loads it without a word; save after the training, and see that the optimizer "
    "holds the factors and that gradients reach them; with a scale of zero set lora_alpha above 0",
    "not-finite": "PEFT loads it without a word; go back to a checkpoint before the loss became "
    "NaN, and train on with a smaller learning rate",
    "not-matched": f"the tensors are not compared with it; {ExpressionError.hint}",
}


RULES: dict[Kind, type[Rule]] = {
    **dict.fromkeys(_HINTS, TensorsDoNotFit),
    "zero": AdapterChangesNothing,
    "not-finite": ParametersNotFinite,
}
"""The rule of each kind of fault."""


@dataclass(frozen=True, slots=True)
class TensorFault:
    """What is wrong with some tensors of an adapter; of each kind there is one fault at most.

    `names` are tensors, as in the file, or modules. The message is that of the first one. The hint
    says what PEFT does when it loads the adapter.
    """

    kind: Kind
    names: tuple[str, ...]
    message: str
    hint: str
    severity: Severity


class SavedLora:
    """The tensors of the LoRA adapter in a folder whose configuration has some values.

    `modules` is `{module path: {factor: tensor}}`; a factor is `lora_A.weight`, for example.
    `others` are the tensors beside them, without PEFT's prefix, and `odd` names that PEFT does not
    write.

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
        self._is_usual = is_usual(values)
        for name, info in read_header(self.path).items():
            path = name.removeprefix(TENSOR_PREFIX)
            place = _place_of(path)
            if path == name or (".lora_" in path and not place and self._is_usual):
                self.odd.append(name)
            elif place:
                self.modules.setdefault(place[0], {})[place[1]] = info
            else:
                self.others[path] = info

    def faults(self, expected: Mapping[str, TensorInfo | None] | None = None) -> list[TensorFault]:
        """Return what is wrong with the tensors, one fault of a kind at most.

        Args:
            expected: what PEFT saves for this configuration and a base model, None for a tensor of
                unknown shape; without it the configuration alone is compared.

        Raises:
            OSError: the file cannot be read.
        """
        found: defaultdict[Kind, dict[str, str]] = defaultdict(dict)
        checks = [self._left_over(), self._incomplete(), self._of_other_shapes(), self._unmoved()]
        if expected is not None:
            checks.append(self._beside(expected))
        for check in checks:
            try:
                for kind, name, what in check:
                    found[kind].setdefault(name, what)
            except ExpressionError as error:
                found["not-matched"].setdefault(error.field, f"{error.field}: {error.problem}")
            except re.error:  # a fault of the configuration
                continue
        return [self._fault(kind, names) for kind, names in found.items()]

    def require_sound(self) -> tuple[str, ...]:
        """Return the modules that change nothing.

        Raises:
            OSError: the file cannot be read.
            ValueError: the tensors are not those of the configuration, or not finite.
        """
        found = {each.kind: each for each in self.faults()}
        still = found.pop("zero", None)
        found.pop("not-matched", None)
        for each in found.values():
            raise ValueError(f"{each.message}; {each.hint}")
        return () if still is None else still.names

    def _fault(self, kind: Kind, found: Mapping[str, str]) -> TensorFault:
        message, more = next(iter(found.values())), len(found) - 1
        severity: Severity = "error"
        if kind == "zero" and len(found) == len(self.modules):
            causes = {each.rpartition(": ")[2] for each in found.values()}
            cause = causes.pop() if len(causes) == 1 else "a factor or the scale is zero"
            message = f"the adapter changes nothing: {cause}, in each of its {len(found)} modules"
            message += ", only other tensors beside them may differ" if self.others else ""
            severity = "warning"
        else:
            message += f" (and {more} more)" if more else ""
            # Some layers may never have been reached.
            severity = "info" if kind in {"zero", "not-matched"} else severity
        return TensorFault(kind, tuple(found), message, _HINTS[kind], severity)

    def shapes(self, path: str) -> tuple[TensorInfo, TensorInfo] | None:
        """Return A and B of a module, or None if one is missing or has another form."""
        for pair in PAIRS:
            A, B = map(self.modules[path].get, pair)
            if A is not None and B is not None:
                return (A, B) if min(len(A.shape), len(B.shape)) >= _MATRIX else None
        return None

    def scales(self) -> dict[str, LoraScale]:
        """Return rank, alpha and scale of each module.

        A factor of a parameter, such as stacked experts, has its numbers by the parameter's name,
        and a row for each expert and rank: of one module, the larger factor has the larger rank.

        Raises:
            ValueError: the configuration gives a module no rank or no alpha.
        """
        of, entries = LoraScales(self.values).of, self.values.get("target_parameters") or ()
        held = defaultdict[str, list[str]](list)
        for path in self.modules:
            held[re.sub(r"(\.base_layer)+$", "", path)].append(path)
        found: dict[str, LoraScale] = {}
        selection = _selection(self.values)
        for owner, paths in held.items():
            names = {f"{owner}.{each.rpartition('.')[2]}" for each in entries}
            scales = sorted(of(name) for name in names if ends_with(name, entries))
            if len(scales) != len(paths) or (selection and selection.holds(owner)):
                scales = [of(path) for path in paths]
            elif all("lora_A.weight" in self.modules[path] for path in paths):
                paths.sort(key=lambda path: self.modules[path]["lora_A.weight"].shape)
            found |= zip(paths, scales, strict=True)
        return {path: found[path] for path in self.modules}

    def _left_over(self) -> Iterator[tuple[Kind, str, str]]:
        whose = foreign_format(self.odd)
        for name in self.odd:
            why = "PEFT's names begin with base_model.model."
            why += f", and these are of {whose} format" if whose else ""
            if name.startswith(TENSOR_PREFIX):
                why = "no factor of LoRA has such a name"
            yield "left-over", name, f"{name!r} fits no module: {why}"
        for path, factors in self.modules.items():
            for factor, field in _BY_FIELD.items():
                if factor in factors and not self.values.get(field):
                    name = f"{TENSOR_PREFIX}{path}.{factor}"
                    yield "left-over", name, f"{name!r} fits no module: {field} is not set"
        selection = _selection(self.values)
        if selection is None or self.values.get("target_parameters"):
            return
        for path in self.modules:
            outer, inside, _ = f"{path}.".partition(".base_layer.")
            # PEFT adapts a tied head with its embedding, and what torch's attention holds with it.
            is_with_another = self.values.get("ensure_weight_tying") and layer_of(path) < 0
            if not is_with_another and not selection.holds(outer if inside else path):
                what = f"the tensors of {path!r} fit no module: target_modules leaves it out"
                yield "left-over", f"{TENSOR_PREFIX}{path}", what

    def _incomplete(self) -> Iterator[tuple[Kind, str, str]]:
        if not (self.modules or self.odd):
            yield "missing", "", "the file holds no factors of any module"
        block = Block(self.values)
        given = None if "modules_to_save" in block.invalid else block["modules_to_save"]
        whole = saved_module_names(given, block["task_type"])
        if lacks_all_of(whole, self.others):
            yield "unsaved", whole[0], f"the file holds no tensor of modules_to_save {whole}"
        for path, factors in self.modules.items() if self._is_usual else ():
            is_embedding = any("embedding" in each for each in factors)
            added = {each for each, field in _BY_FIELD.items() if self.values.get(field)}
            wanted = added - {"lora_B.bias"} if is_embedding else added
            wanted |= {*PAIRS[is_embedding]}
            for factor in sorted(wanted - factors.keys()):
                name = f"{TENSOR_PREFIX}{path}.{factor}"
                yield "missing", name, f"the tensor {name!r} is missing"

    def _of_other_shapes(self) -> Iterator[tuple[Kind, str, str]]:
        scales = LoraScales(self.values)
        for path, factors in self.modules.items() if self._is_usual else ():
            if (pair := self.shapes(path)) is None:
                for factor in {*chain(*PAIRS)} & factors.keys():
                    if len(shape := factors[factor].shape) < _MATRIX:
                        what = f"a {factor} of shape {list(shape)}, which is no matrix"
                        yield "shape", path, f"{path!r} has {what}"
                continue
            A, B = pair
            rank, other, scale = A.shape[0], B.shape[1], 1.0
            # B of a grouped convolution has a part of the rank.
            is_part = len(A.shape) > _MATRIX and other > 0 and not rank % other
            what = f"has factors of ranks {rank} and {other}"
            if rank == other or is_part:
                try:
                    told, _, scale = scales.of(path)
                    what = f"has tensors of rank {rank}, and the configuration gives rank {told}"
                    what = "" if told == rank else what
                except ExpressionError:
                    raise
                except ValueError as error:
                    what = str(error)
            if what:
                yield "shape", path, f"{path!r} {what}"
            elif scale == 0 and "lora_magnitude_vector" not in self.modules[path]:
                yield "zero", path, f"{path!r} changes nothing: the scale is zero"

    def _beside(self, expected: Mapping[str, TensorInfo | None]) -> Iterator[tuple[Kind, str, str]]:
        """Yield modules that only the file or only the model has, and those of other shapes."""
        wanted: dict[str, dict[str, TensorInfo | None]] = {}
        for name, info in expected.items():
            if place := _place_of(name.removeprefix(TENSOR_PREFIX)):
                wanted.setdefault(place[0], {})[place[1]] = info
        for path, factors in self.modules.items():
            if path not in wanted:
                what = f"the tensors of {path!r} fit no module: the base model has no such layer"
                yield "left-over", f"{TENSOR_PREFIX}{path}", what
            for factor, info in factors.items():
                shape = (wanted.get(path, {}).get(factor) or info).shape
                if shape != info.shape:
                    what = f"{list(info.shape)}, and the base model needs {list(shape)}"
                    yield "shape", path, f"{path!r} has a {factor} of shape {what}"
        for path in (each for each in wanted if each not in self.modules):
            what = f"the tensors of {path!r}, a target, are missing"
            yield "missing", f"{TENSOR_PREFIX}{path}", what

    def _unmoved(self) -> Iterator[tuple[Kind, str, str]]:
        with os.fdopen(open_regular_file(self.path), "rb") as file:

            def read(info: TensorInfo) -> Iterator[bytes]:
                """Yield a tensor in parts of which each holds whole numbers."""
                file.seek(info.begin)
                left = info.entries * _SIZES[info.dtype]
                while left > 0 and (part := file.read(min(left, _PART))):
                    left -= len(part)
                    yield part

            infos = dict(self.others)
            for path, factors in self.modules.items():
                infos |= {f"{path}.{factor}": info for factor, info in factors.items()}
            for name, info in infos.items():
                is_known = info.dtype in _SIZES
                if is_known and _is_not_finite(next(read(info), b"")[:_BEGIN], info.dtype):
                    what = f"the tensor {TENSOR_PREFIX + name!r} holds numbers that are not finite"
                    yield "not-finite", f"{TENSOR_PREFIX}{name}", what
            for path, factors in self.modules.items():
                known = {each: info for each, info in factors.items() if info.dtype in _SIZES}
                if "lora_magnitude_vector" in factors or self.shapes(path) is None:
                    continue  # a magnitude of DoRA changes a layer by itself
                matrices = {each: i for each, i in known.items() if "lora_B.bias" not in each}
                bias = known.get("lora_B.bias")
                still = [each for each, i in matrices.items() if _is_zero(read(i), i.dtype)]
                if still and (bias is None or _is_zero(read(bias), bias.dtype)):
                    what = f"{' and '.join(still)} {'is' if len(still) == 1 else 'are'}"
                    yield "zero", path, f"{path!r} changes nothing: {what} all zero"


def _place_of(path: str) -> tuple[str, str] | None:
    """Return the module and the name of a factor, None for another tensor."""
    found = _FACTOR.fullmatch(path)
    if found is None:
        return None
    return found[1] or "", found[2] + (found[3] if found[2] in {"lora_A", "lora_B"} else "")


def _other_form(folder: Path) -> str | None:
    """Return why a folder without the usual file cannot be judged, None if it has no weights."""
    if (folder / "adapter_model.bin").exists():
        why = "adapter_model.bin is a pickle, which is not opened; load the adapter with PEFT"
        return f"{why} and save it again as safetensors"
    if any(folder.glob("adapter_model*.safetensors*")):
        why = "the tensors are in parts, which PEFT does not load as an adapter; save them as one"
        return f"{why} {WEIGHTS}"
    return None


def _selection(values: Mapping[str, Any]) -> ModuleSelection | None:
    """Return what the configuration selects, or None where that is not known from paths."""
    block = Block(values)
    fields = ("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern")
    targets, *others = (block[name] for name in fields)
    if not targets or is_all_linear(targets) or not block.invalid.isdisjoint(fields):
        return None
    return ModuleSelection(targets, *others)


def _is_zero(parts: Iterator[bytes], dtype: str) -> bool:
    """Return whether all numbers are zero; minus zero is one."""
    size = _SIZES[dtype]
    return not any(
        part[size - 1 :: size].strip(b"\0\x80")
        or any(part[place::size].strip(b"\0") for place in range(size - 1))
        for part in parts
        if part != bytes(len(part))
    )


def _is_not_finite(part: bytes, dtype: str) -> bool:
    """Return whether a number has the exponent of infinity and NaN."""
    size, exponent = _SIZES[dtype], _EXPONENTS[dtype]
    top = exponent >> 8 * (size - 1)
    ends = (end for end in range(size, len(part) + 1, size) if part[end - 1] & top == top)
    return any(
        int.from_bytes(part[end - size : end], "little") & exponent == exponent for end in ends
    )


def is_usual(values: Mapping[str, Any]) -> bool:
    """Return whether the settings let names, shapes and layers of tensors be compared."""
    return not any(map(values.get, _UNUSUAL))
