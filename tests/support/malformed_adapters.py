"""Adapters on disk, ways to spoil them, and whether a model is as it was."""

from __future__ import annotations

import hashlib
import json
import re
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

if TYPE_CHECKING:
    Tensors = dict[str, torch.Tensor]
    Change = Callable[[torch.Tensor], torch.Tensor]
    Spoil = Callable[[Path], Any]

WEIGHTS, BINARY, CONFIG = "adapter_model.safetensors", "adapter_model.bin", "adapter_config.json"
PREFIX = "base_model.model."
A = f"{PREFIX}first.lora_A"


def weights(change: Callable[[Tensors], Tensors | None] = dict, *, binary: bool = False) -> Spoil:
    """Return a change of the tensors, which are written as safetensors or as a pickle."""

    def spoil(folder: Path) -> None:
        tensors = load_file(folder / WEIGHTS)
        tensors = change(tensors) or tensors
        if binary:
            (folder / WEIGHTS).unlink()
            torch.save(tensors, folder / BINARY)
        else:
            save_file(tensors, folder / WEIGHTS)

    return spoil


def one(name: str, change: Change, *, binary: bool = False) -> Spoil:
    """Return a change of one tensor."""

    def changed(tensors: Tensors) -> None:
        tensors[PREFIX + name] = change(tensors[PREFIX + name])

    return weights(changed, binary=binary)


def without(part: str) -> Spoil:
    """Return a change that drops all tensors with `part` in their names."""
    return weights(lambda tensors: {k: v for k, v in tensors.items() if part not in k})


def plus(binary: bool = False, **more: Any) -> Spoil:
    """Return a change that adds tensors."""
    return weights(lambda tensors: tensors | more, binary=binary)


def config(**changes: Any) -> Spoil:
    """Return a change of `adapter_config.json`."""

    def spoil(folder: Path) -> None:
        values = json.loads((folder / CONFIG).read_bytes())
        (folder / CONFIG).write_text(json.dumps(values | changes))

    return spoil


def expanded(tensors: Tensors) -> Tensors:
    """Return factors whose shapes agree, of a terabyte in a few bytes."""
    names, size = [f"{PREFIX}first.lora_{factor}" for factor in "AEB"], 1 << 36
    shapes = [(8, size), (8, 1), (size, 8)]
    return tensors | {
        name: torch.ones(1).expand(shape) for name, shape in zip(names, shapes, strict=True)
    }


def described(model: nn.Module) -> list[Any]:
    """Return all of `model` that loading could change."""
    tuner = getattr(model, "base_model", model)
    adapters = tuner.adapters if hasattr(tuner, "adapters") else {}
    return [
        [(path, type(each), each.training) for path, each in model.named_modules()],
        [(name, id(each), each.requires_grad) for name, each in model.named_parameters()],
        [(name, each.tolist()) for name, each in model.state_dict().items()],
        [(name, each.config.to_json_dict(), each.positions) for name, each in adapters.items()],
        getattr(tuner, "active_adapters", None),
    ]


def nested_layer(folder: Path) -> None:
    """Adapt the base layer inside an adapted layer."""

    def changed(tensors: Tensors) -> None:
        for factor in "AEB":
            values = tensors[f"{PREFIX}first.lora_{factor}"]
            tensors[f"{PREFIX}first.base_layer.lora_{factor}"] = values.clone()

    weights(changed)(folder)
    config(target_modules=["first", "base_layer", "second"], rank_pattern=None)(folder)


def of_a_negative_shape(tensor: torch.Tensor) -> Any:
    """Return what pickles as a view of an impossible shape."""
    rebuilt = tensor.untyped_storage(), 0, (-1, 0), (0, 1), False, {}
    typed = torch.storage.TypedStorage(wrap_storage=rebuilt[0], dtype=tensor.dtype, _internal=True)

    class View:
        def __reduce__(self) -> Any:
            return torch._utils._rebuild_tensor_v2, (typed, *rebuilt[1:])

    return View()


def legacy(folder: Path) -> None:
    """Write the weights as torch did before release 1.6."""
    tensors = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    torch.save(tensors, folder / BINARY, _use_new_zipfile_serialization=False)


def with_parts_of(path: Path, other: Path) -> None:
    """Give each part of an archive a second one of its name."""
    with zipfile.ZipFile(path, "a") as archive, zipfile.ZipFile(other) as parts:
        for name in parts.namelist():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                archive.writestr(name, parts.read(name))


def many_dimensions(folder: Path) -> None:
    """Give a tensor a shape of 100,000 dimensions."""
    _change_header(folder / WEIGHTS, lambda header: header[A]["shape"].extend([1] * 100_000))


def empty(shape: list[int]) -> Spoil:
    """Return a change that adds a tensor of `shape` without data."""
    return lambda folder: _change_header(
        folder / WEIGHTS, lambda header: _add_empty(header, "extra.weight", shape)
    )


def views(tensors: Tensors) -> Tensors:
    """Return one memory as the factors of many modules."""
    memory = torch.ones(12 * 16)
    shapes = {"A": (12, 16), "E": (12, 1), "B": (16, 12)}
    return tensors | {
        f"{PREFIX}m{i}.lora_{factor}": memory[: shape[0] * shape[1]].view(shape)
        for i in range(1000)
        for factor, shape in shapes.items()
    }


def write_state(path: Path, end: str) -> None:
    """Replace the text in the metadata of a state; the digest of the file fits."""

    def changed(header: dict[str, Any]) -> None:
        header["__metadata__"] = {"adalora_state": f'{{"digest":"{"0" * 64}",{end}'}

    _change_header(path, changed, "0" * 64)


def empty_in_state(path: Path, shape: list[int]) -> None:
    """Add a tensor of `shape` without data to a state; the digest of the file fits."""
    digest = re.search(rb'digest\\":\\"([0-9a-f]{64})', path.read_bytes())[1].decode()
    _change_header(path, lambda header: _add_empty(header, "extra", shape), digest)


def _add_empty(header: dict[str, Any], name: str, shape: list[int]) -> None:
    end = max(each["data_offsets"][1] for key, each in header.items() if key[:2] != "__")
    header[PREFIX + name] = {"dtype": "F32", "shape": shape, "data_offsets": [end, end]}


def _change_header(path: Path, change: Callable[[Any], Any], digest: str = "") -> None:
    """Change the header of a file, and the digest of its bytes if there is one."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    change(header)
    text = json.dumps(header, separators=(",", ":")).encode()
    whole = len(text).to_bytes(8, "little") + text + data[8 + length :]
    if digest:
        whole = whole.replace(digest.encode(), b"0" * 64, 1)
        whole = whole.replace(b"0" * 64, hashlib.sha256(whole).hexdigest().encode(), 1)
    path.write_bytes(whole)
