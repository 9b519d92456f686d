"""Build the model of a folder on torch's meta device: names and shapes, but no weights.

The class is transformers' own, by `config.json`. Where transformers has none, modules are made by
the names and shapes of the headers. Nothing is downloaded, and no code of the model runs.
"""

from __future__ import annotations

import copy
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
import transformers
from torch import nn
from transformers.pytorch_utils import Conv1D

from adalora_core.checker.documents import read_bytes
from adalora_core.checker.plan.header import TensorInfo, read_weights
from adalora_core.checker.plan.modules import BaseModel, Module
from adalora_core.floor.escaping import visible
from adalora_core.floor.limits import DEFAULT_LIMITS

_CONVOLUTIONS: dict[int, Any] = {3: nn.Conv1d, 4: nn.Conv2d, 5: nn.Conv3d}
_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
}  # fmt: skip
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_PARTS = 4
"""How deep configurations are inside each other."""
_MATRIX = 2
_EMBEDDING = re.compile(
    r"(.*_)?embeddings?|embed_(tokens|positions|in)|tok_embeddings|wte|wpe|shared"
    r"|relative_attention_bias"
)
"""Names of modules whose two-dimensional weight is a lookup table, not a linear map."""
_STACKED = frozenset({"input_linear", "output_linear"})
"""Names of modules whose three-dimensional weight is a stack of experts."""
_PACKED = ".weight.absmax"
"""The tensor beside four-bit weights of bitsandbytes, whose header lacks the sizes."""


@dataclass(frozen=True, slots=True)
class Base:
    """A model to adapt: `make` builds it anew on the meta device, and `notes` say from what.

    Without a class there are the modules that the headers show, of which some sizes are not known.
    """

    make: Callable[[], Any]
    described: BaseModel
    notes: tuple[str, ...] = ()
    has_class: bool = True

    def sizes_of(self, file: Mapping[str, TensorInfo]) -> dict[str, TensorInfo | None]:
        """Return the tensors of a file of this model, None for those of unknown sizes."""
        return {name: info if self.has_class else None for name, info in file.items()}


def read_base(place: str | os.PathLike[str], class_name: str | None = None) -> Base:
    """Return the model of a folder, of an index or of a file of weights, `class_name` its class.

    Raises:
        OSError: a file is missing or unreadable.
        ValueError: a file is damaged, or the named class cannot be built.
    """
    path = Path(place)
    path.stat()  # a missing place is an OSError, with a configuration beside it too
    folder = path if path.is_dir() else path.parent
    try:
        make, notes = _of_transformers(folder, class_name)
        return Base(make, describe(make()), notes)
    except (_NoClassError, ImportError) as error:
        why: Exception = error
    except Exception as error:  # noqa: BLE001 - whatever the class of the model raises
        why = _NoClassError(f"{type(error).__name__}: {error}")
    reason = visible(" ".join(str(why).split())[:200])
    if class_name is not None:
        raise ValueError(f"--class {class_name} cannot be built: {reason}")
    tensors, settings = read_weights(path), _settings_of(folder)
    note = f"the model is planned by names and shapes of the headers: {reason}"
    note += "; its class may have other names"
    packed = sum(1 for name in tensors if name.endswith(_PACKED))
    more = (f"{packed} quantised layers have no sizes in the header",) if packed else ()

    def skeleton() -> Skeleton:
        return _skeleton(tensors, settings)

    return Base(skeleton, describe(skeleton()), (note, *more), has_class=False)


def class_of_saved(values: Mapping[str, Any]) -> str | None:
    """Return the class of transformers that a saved adapter without a task names."""
    named = values.get("auto_mapping")
    name = named.get("base_model_class") if isinstance(named, dict) else None
    return name if isinstance(name, str) and hasattr(transformers, name) else None


class _NoClassError(Exception):
    """Transformers has no class for a folder."""


def _settings_of(folder: Path) -> dict[str, Any]:
    """Return what the `config.json` of a folder holds, nothing without one."""
    path = folder / "config.json"
    if not path.is_file():
        return {}
    try:
        settings = json.loads(read_bytes(path, DEFAULT_LIMITS))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not valid JSON: {error}") from None
    return settings if isinstance(settings, dict) else {}


def _of_transformers(
    folder: Path, class_name: str | None
) -> tuple[Callable[[], Any], tuple[str, ...]]:
    settings = _settings_of(folder)
    if not settings:
        raise _NoClassError("there is no config.json")
    classes = settings.get("architectures")
    name = class_name or (classes[0] if isinstance(classes, list) and classes else None)
    if not isinstance(name, str):
        raise _NoClassError("config.json names no class in `architectures`")
    found: Any = getattr(transformers, name, None) if name.isidentifier() else None
    if not (isinstance(found, type) and issubclass(found, transformers.PreTrainedModel)):
        raise _NoClassError(f"transformers has no model class {name}")
    make_config: Any = found.config_class
    config = make_config.from_pretrained(folder, local_files_only=True)
    _prepare(config)
    notes = []
    if "quantization_config" in settings:
        del config.quantization_config
        notes.append(
            "the quantised layers are planned as plain linear ones; PEFT may refuse those of "
            "another method than bitsandbytes, GPTQ and AWQ"
        )
    dtype = config.dtype or _dtype_of_headers(folder)

    def make() -> Any:
        with torch.device("meta"):
            made = found._from_config(copy.deepcopy(config), dtype=dtype)  # noqa: SLF001 - no public way keeps the dtype
        _keep_in_float32(made, dtype)
        return made

    return make, tuple(notes)


def _keep_in_float32(made: Any, dtype: torch.dtype | None) -> None:
    """Give the tensors that transformers never loads in half precision their dtype."""
    if plan := made._get_dtype_plan(dtype):  # noqa: SLF001 - as `from_pretrained` asks
        kept = re.compile("|".join(plan).replace("*", ".*"))
        for name, each in made.state_dict(keep_vars=True).items():
            if kept.search(name):
                each.data = each.data.float()


def _prepare(config: Any, depth: int = 0) -> None:
    """Keep a configuration and those inside from asking for weights and kernels."""
    if hasattr(config, "use_pretrained_backbone"):
        config.use_pretrained_backbone = False
    for each in list(vars(config).values()) if depth < _PARTS else ():
        if isinstance(each, transformers.PretrainedConfig):
            _prepare(each, depth + 1)


def _dtype_of_headers(folder: Path) -> torch.dtype | None:
    """Return the dtype that transformers takes where the configuration has none."""
    try:
        tensors = read_weights(folder).values()
    except (OSError, ValueError):
        return None
    return next((_DTYPES[each.dtype] for each in tensors if each.dtype in _DTYPES), None)


def describe(model: nn.Module) -> BaseModel:
    """Return names, kinds and shapes of the modules and parameters of a model."""
    config = getattr(model, "config", None)
    text = config.get_text_config() if isinstance(config, transformers.PretrainedConfig) else None
    tensors = {name: info_of(each) for name, each in model.named_parameters()}
    modules = {path: _described(path, each) for path, each in model.named_modules() if path}
    kind = getattr(config, "model_type", None)
    return BaseModel(tensors, modules, kind or None, getattr(text, "vocab_size", None) or None)


def info_of(tensor: torch.Tensor) -> TensorInfo:
    """Return dtype and shape of a tensor as a header has them."""
    return TensorInfo(_NAMES.get(tensor.dtype, "F32"), tuple(tensor.shape))


def _described(path: str, module: nn.Module) -> Module:
    weight = getattr(module, "weight", None)
    if not isinstance(weight, torch.Tensor):
        return Module(path, "other")
    info, found = info_of(weight), Module(path, "other")
    if isinstance(module, nn.Linear):
        found = replace(found, kind="linear", inputs=info.shape[1], outputs=info.shape[0])
    elif isinstance(module, Conv1D):
        found = replace(found, kind="linear", inputs=info.shape[0], outputs=info.shape[1])
    elif isinstance(module, nn.Embedding):
        found = replace(found, kind="embedding", inputs=info.shape[1], outputs=info.shape[0])
    elif isinstance(module, tuple(_CONVOLUTIONS.values())):
        found = replace(
            found, kind="convolution", inputs=prod(info.shape[1:]), outputs=info.shape[0]
        )
    return replace(found, dtype=info.dtype)


class Skeleton(transformers.PreTrainedModel):
    """A model of modules that are known by the headers alone."""

    config_class = transformers.PretrainedConfig

    def get_output_embeddings(self) -> Any:
        """Return the module that maps to the vocabulary, which PEFT leaves out of all-linear."""
        heads: list[nn.Module] = self.__dict__["heads"]
        return next(iter(heads), None)

    def prepare_inputs_for_generation(self) -> None:
        """Stand for the method that PEFT looks up."""

    _prepare_encoder_decoder_kwargs_for_generation = prepare_inputs_for_generation


def _skeleton(tensors: Mapping[str, TensorInfo], settings: Mapping[str, Any]) -> Skeleton:
    """Return the modules that the names of tensors imply, containers included."""
    text, named = settings.get("text_config"), settings.get("model_type")
    size = settings.get("vocab_size", text.get("vocab_size") if isinstance(text, dict) else 0)
    fields = {"model_type": named if isinstance(named, str) else ""}
    kind = type("Config", (transformers.PretrainedConfig,), fields)
    root = Skeleton(kind(vocab_size=size if isinstance(size, int) and size > 0 else 0))
    made: dict[str, nn.Module] = {"": root}
    with torch.device("meta"):
        for tensor in tensors:
            parts = tensor.split(".")[:-1]
            for path in (".".join(parts[:length]) for length in range(1, len(parts) + 1)):
                if path not in made:
                    parent, _, name = path.rpartition(".")
                    if (found := getattr(made[parent], name, None)) is None:
                        found = _module(path, tensors)
                        made[parent].add_module(name, found)
                    made[path] = found  # an attention makes its own
        for name, info in tensors.items():
            path, _, last = name.rpartition(".")
            if not hasattr(made[path], last) and not isinstance(made[path], nn.Linear):
                value = torch.empty(info.shape, dtype=_dtype_of(info))
                if last == "bias" and len(info.shape) > 1:  # a mask
                    made[path].register_buffer(last, value)
                else:
                    made[path].register_parameter(last, nn.Parameter(value, requires_grad=False))
    described = describe(root)
    modules = described.modules.items()
    root.__dict__["heads"] = [made[path] for path, x in modules if described.is_output_head(x)]
    return root


def _module(path: str, tensors: Mapping[str, TensorInfo]) -> nn.Module:
    """Return a module of the kind that its name and the shapes of its tensors suggest."""
    name, attention = path.rpartition(".")[2], tensors.get(f"{path}.in_proj_weight")
    width = attention.shape[-1] if attention and attention.shape else 0
    if attention and attention.shape == (3 * width, width):
        has_bias, dtype = f"{path}.in_proj_bias" in tensors, _dtype_of(attention)
        return nn.MultiheadAttention(width, 1, bias=has_bias, dtype=dtype)
    bias, rows, scales = (tensors.get(f"{path}.{each}") for each in ("bias", "qweight", "scales"))
    if rows and scales and len(scales.shape) == len(rows.shape) == _MATRIX:  # of GPTQ or AWQ
        # The scales are [groups, out]. AWQ packs the outputs, so the rows are the inputs.
        order = tensors.get(f"{path}.g_idx")
        inputs = order.shape[0] if order and order.shape else rows.shape[0]
        return nn.Linear(inputs, scales.shape[1], bias is not None, dtype=_dtype_of(scales))
    weight = tensors.get(f"{path}.weight")
    if weight is None or name in _STACKED or f"{path}{_PACKED}" in tensors:
        return nn.Module()
    dtype, has_bias = _dtype_of(weight), bias is not None
    if len(weight.shape) in _CONVOLUTIONS:
        outputs, inputs, *kernel = weight.shape
        make = _CONVOLUTIONS[len(weight.shape)]
        made: nn.Module = make(inputs, outputs, tuple(kernel), bias=has_bias, dtype=dtype)
        return made
    if len(weight.shape) != _MATRIX:
        return nn.Module()
    outputs, inputs = weight.shape
    if _EMBEDDING.fullmatch(name):
        return nn.Embedding(outputs, inputs, dtype=dtype)
    if bias is not None and bias.shape == (inputs,) != (outputs,):
        return Conv1D(inputs, outputs).to(dtype)
    return nn.Linear(inputs, outputs, has_bias, dtype=dtype)


def _dtype_of(info: TensorInfo) -> torch.dtype:
    return _DTYPES.get(info.dtype, torch.float32)
