"""Read the tensors that `torch.save` has written, in memory that the size of the file bounds."""

from __future__ import annotations

import io
import math
import pickletools
import zipfile
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

if TYPE_CHECKING:
    from pathlib import Path

MOST_BYTES = 4 << 20
"""The largest pickle of names and shapes; one of 20,000 tensors is smaller."""
MOST_PARTS = 200_000
MOST_DIMENSIONS = 8
MOST_SHARED = 4
"""How many times the size of its file all tensors may fill: tied weights have several names."""

_DTYPES = {
    "torch DoubleStorage": torch.float64,
    "torch FloatStorage": torch.float32,
    "torch HalfStorage": torch.float16,
    "torch BFloat16Storage": torch.bfloat16,
    "torch LongStorage": torch.int64,
    "torch IntStorage": torch.int32,
    "torch ShortStorage": torch.int16,
    "torch CharStorage": torch.int8,
    "torch ByteStorage": torch.uint8,
    "torch BoolStorage": torch.bool,
}
_FUNCTIONS = {
    "collections OrderedDict",
    "torch._utils _rebuild_parameter",
    "torch._utils _rebuild_tensor_v2",
}


class _Name(str):
    __slots__ = ()


class _Storage(NamedTuple):
    dtype: torch.dtype
    key: str
    length: int


class _View(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_pickled(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a file; only globals of plain tensors have a meaning in its pickle.

    `torch.load` would grant a pickle sets, copies and hashes without a bound, and find other parts
    in a damaged archive than Python does. So one reader decides what the file holds.

    Raises:
        ValueError: the file holds no plain tensors, parts of it are compressed or overlap, or too
            many tensors share their memory.
        Exception: of another kind, by the damage.
    """
    raw = path.read_bytes()
    if not raw.startswith(b"PK\3\4"):
        raise ValueError("expected a zip archive, as torch.save writes since release 1.6")
    if raw.count(b"PK\1\2") > MOST_PARTS:
        raise ValueError(f"it has more than {MOST_PARTS} parts")
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        unpacked = sum(part.file_size for part in archive.infolist())
        if unpacked > len(raw) or any(part.compress_type for part in archive.infolist()):
            raise ValueError(
                f"its parts unpack to {unpacked} bytes or more: they are compressed or overlap"
            )
        parts = {part.filename.partition("/")[2]: part for part in archive.infolist()}
        if "data.pkl" not in parts or parts["data.pkl"].file_size > MOST_BYTES:
            raise ValueError(f"expected a part data.pkl of at most {MOST_BYTES} bytes")
        if "byteorder" in parts and archive.read(parts["byteorder"]) != b"little":
            raise ValueError("its numbers are not little-endian")
        views = _unpickled(archive.read(parts["data.pkl"]))
        if type(views) is not dict or not all(type(view) is _View for view in views.values()):
            raise ValueError("it holds no {name: tensor} mapping")
        keys = {view.storage.key for view in views.values()}
        storages = {key: bytearray(archive.read(parts[f"data/{key}"])) for key in keys}
    tensors = {name: _tensor(name, view, storages) for name, view in views.items()}
    if (filled := sum(each.nbytes for each in tensors.values())) > MOST_SHARED * len(raw):
        raise ValueError(
            f"its tensors share their memory: copies of each would fill {filled} bytes"
        )
    return tensors


def _tensor(name: str, view: _View, storages: dict[str, bytearray]) -> torch.Tensor:
    (dtype, key, length), offset, shape, strides = view
    if math.prod(shape) > length:
        raise ValueError(f"the tensor {name!r} is larger than its memory")
    flat = torch.empty(0, dtype=dtype)
    if length:
        flat = torch.frombuffer(storages[key], dtype=dtype, count=length)
    return flat.as_strided(shape, strides, offset)


def _known(name: str) -> _Name:
    if name not in _DTYPES and name not in _FUNCTIONS:
        raise ValueError(f"its pickle names {name.replace(' ', '.')}, not only plain tensors")
    return _Name(name)


def _storage(described: Any) -> _Storage:
    match described:
        case ("storage", _Name() as kind, str(key), str(), int(length)) if kind in _DTYPES:
            return _Storage(_DTYPES[kind], key, length)
    raise ValueError("its pickle describes a storage otherwise than torch.save does")


def _called(function: Any, arguments: Any) -> Any:
    """Return the result of a call in a pickle; the hooks of a tensor mean nothing here."""
    match type(function) is _Name and function, arguments:
        case "collections OrderedDict", ():
            return {}
        case "torch._utils _rebuild_parameter", (_View() as view, *_):
            return view
        case "torch._utils _rebuild_tensor_v2", (
            _Storage() as storage, int(offset), tuple(shape), tuple(strides), *_
        ) if len(shape) <= MOST_DIMENSIONS and {*map(type, shape + strides)} <= {int}:  # fmt: skip
            return _View(storage, offset, shape, strides)
    raise ValueError("its pickle calls a function otherwise than torch.save does")


def _with_items(mapping: Any, *items: Any) -> Any:
    # The hash of another kind of key can take any time.
    if type(mapping) is not dict or not all(type(key) is str for key in items[::2]):
        raise ValueError("it holds no {name: tensor} mapping")
    mapping.update(zip(items[::2], items[1::2], strict=True))
    return mapping


def _packed(*items: Any) -> tuple[Any, ...]:
    return items


_PUSHED: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("BINUNICODE", "BININT", "BININT1", "BININT2", "LONG1"), lambda value: value),
    **dict.fromkeys(("NONE", "NEWTRUE", "NEWFALSE"), lambda _: None),
    "EMPTY_DICT": lambda _: {},
    "EMPTY_TUPLE": lambda _: (),
    "GLOBAL": _known,
}
"""What an opcode puts on the stack, from its value."""
_TAKEN: dict[str, tuple[int, Callable[..., Any]]] = {
    "TUPLE1": (1, _packed),
    "TUPLE2": (2, _packed),
    "TUPLE3": (3, _packed),
    "BINPERSID": (1, _storage),
    "REDUCE": (2, _called),
    "SETITEM": (3, _with_items),
    "BUILD": (2, lambda made, _: made),  # the versions of modules in a state
}
"""How many things an opcode takes from the stack, and what it puts there from them."""
_TAKEN_FROM_MARK: dict[str, tuple[int, Callable[..., Any]]] = {
    "TUPLE": (0, _packed),
    "SETITEMS": (1, _with_items),
}
"""The same for opcodes that take all above a mark, and so many things below."""


def _unpickled(data: bytes) -> Any:
    """Return what a pickle describes, in time and memory that its length bounds."""
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[Any, Any] = {}
    for opcode, value, _ in pickletools.genops(data):
        name = opcode.name
        if name in _PUSHED:
            stack.append(_PUSHED[name](value))
        elif name in {"BINPUT", "LONG_BINPUT"}:
            memo[value] = stack[-1]
        elif name in {"BINGET", "LONG_BINGET"}:
            stack.append(memo[value])
        elif name == "MARK":
            marks.append(len(stack))
        elif name in _TAKEN or name in _TAKEN_FROM_MARK:
            number, function = _TAKEN.get(name) or _TAKEN_FROM_MARK[name]
            start = (len(stack) if name in _TAKEN else marks.pop()) - number
            stack[start:] = [function(*stack[start:])]
        elif name not in {"PROTO", "STOP"}:
            raise ValueError(f"its pickle has an opcode {name}, which plain tensors do not need")
    return stack.pop()
