"""Convert between an allocator and the tensors of a training state: dropped triplets and averages.

Averages are stored in two parts. The last byte of a number holds the sign and most of the exponent,
which differ little between numbers, so the last bytes are compressed. The other bytes are noise and
are stored as they are. The values stay equal bit for bit.
"""

from __future__ import annotations

import hashlib
import zlib
from typing import TYPE_CHECKING

import torch

from adalora_core.allocation.statistics import average_dtype
from adalora_core.errors import CheckpointError
from adalora_core.nn.adapter_layer import FACTORS, TRIPLET_AXES
from adalora_core.sharding import divided_like, whole
from adalora_core.training.adapter_file.tensors import keep_rows, whole_factors

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from adalora_core.allocation import RankAllocator
    from adalora_core.rank_pattern import RankPattern
    from adalora_core.training.adapter import Adapter

AVERAGES = ("smoothed", "uncertainty")
DROPPED = "dropped."
_FAST = 1
"""zlib's level: a higher one takes longer and saves little."""


def factor_names(paths: Iterable[str]) -> list[str]:
    """Return `<path>.lora_{A,E,B}` of every module, in the order of the allocator's parameters."""
    return [f"{path}.{factor}" for path in paths for factor in FACTORS]


def split_factors(
    adapter: Adapter, pattern: RankPattern | None
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Return the factors of the triplets that `pattern` keeps, and those of the others.

    Modules without dropped triplets are left out of the second. With a sharded model every process
    has to call it.
    """
    parts: tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]] = ({}, {})
    for path, layer in adapter.layers.items():
        factors = whole_factors(layer, adapter.name)
        kept = adapter.rows_in(pattern, path)
        dropped = [row for row in range(len(adapter.positions[path])) if row not in set(kept)]
        for part, rows in zip(parts, (kept, dropped), strict=True):
            if rows or rows is kept:
                cut = keep_rows(factors, rows)
                part.update({f"{path}.{factor}": values for factor, values in cut.items()})
    return parts


def joined_factors(
    tensors: Mapping[str, torch.Tensor],
    kept: Mapping[str, torch.Tensor],
    positions: Mapping[str, Sequence[int]],
    in_file: Mapping[str, Sequence[int]],
) -> dict[str, torch.Tensor]:
    """Return the factors of all triplets, `{path.factor: values}`: the inverse of `split_factors`.

    Args:
        tensors: tensors of the training state.
        kept: tensors of the adapter file.
        positions: which original triplets the rows of each module are.
        in_file: which of these triplets the adapter file holds.

    Raises:
        CheckpointError: the two sets of triplets do not fit together.
    """
    factors = {}
    for path, places in positions.items():
        first = [row for row, place in enumerate(places) if place in set(in_file.get(path, ()))]
        rest = [row for row in range(len(places)) if row not in set(first)]
        order = torch.tensor([*first, *rest], dtype=torch.long).argsort()
        for factor, axis in TRIPLET_AXES.items():
            name = f"{path}.{factor}"
            parts = [kept[name]] if name in kept else []
            if rest:
                parts += [tensors[DROPPED + name]] if DROPPED + name in tensors else []
            if [each.shape[axis] for each in parts] != [len(first), len(rest)][: 1 + bool(rest)]:
                raise CheckpointError(
                    f"training state: expected {len(first)} triplets of {path} in the adapter "
                    f"file and {len(rest)} in the state; the two files are of different runs"
                )
            factors[name] = torch.cat(parts, axis).index_select(axis, order).contiguous()
    return factors


def digest_of(factors: Mapping[str, torch.Tensor], paths: Iterable[str]) -> str:
    """Return a hash of the factors of the modules `paths`."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        for factor in FACTORS:
            digest.update(_bytes_of(factors[f"{path}.{factor}"]).numpy().tobytes())
    return digest.hexdigest()


def pack_averages(allocator: RankAllocator) -> dict[str, torch.Tensor]:
    """Return both averages of `allocator` in a few tensors of bytes; nothing without averages.

    With a sharded model every process has to call it.
    """
    packed = {}
    for kind in AVERAGES:
        by_dtype: dict[torch.dtype, list[torch.Tensor]] = {}
        averages = getattr(allocator.statistics, kind)
        for parameter, average in zip(
            allocator.parameters() if averages else [], averages, strict=True
        ):
            gathered = whole(divided_like(parameter, average))
            by_dtype.setdefault(gathered.dtype, []).append(gathered.flatten().cpu())
        for dtype, parts in by_dtype.items():
            bytes_of_each = _bytes_of(torch.cat(parts)).view(-1, dtype.itemsize)
            last = zlib.compress(bytes_of_each[:, -1].numpy().tobytes(), _FAST)
            name = _name(kind, dtype)
            packed[f"{name}.last"] = torch.frombuffer(bytearray(last), dtype=torch.uint8)
            packed[f"{name}.first"] = bytes_of_each[:, :-1].contiguous()
    return packed


def unpack_averages(
    tensors: Mapping[str, torch.Tensor], factors: Mapping[str, torch.Tensor], names: Sequence[str]
) -> dict[str, list[torch.Tensor]]:
    """Return `{kind: averages}` in the shapes of the factors `names`; empty lists without averages.

    Raises:
        CheckpointError: the averages are damaged, or have other shapes.
    """
    dtypes = list(dict.fromkeys(average_dtype(factors[name].dtype) for name in names))
    if not any(f"{_name(kind, each)}.first" in tensors for kind in AVERAGES for each in dtypes):
        return {kind: [] for kind in AVERAGES}
    unpacked: dict[str, list[torch.Tensor]] = {}
    for kind in AVERAGES:
        flat = {dtype: _unpacked(tensors, _name(kind, dtype), dtype) for dtype in dtypes}
        unpacked[kind] = []
        for name in names:
            shape, dtype = factors[name].shape, average_dtype(factors[name].dtype)
            entries, flat[dtype] = flat[dtype].tensor_split([shape.numel()])
            if len(entries) != shape.numel():
                raise CheckpointError(f"training state: there are too few averages for {name}")
            unpacked[kind].append(entries.view(shape))
        if any(map(len, flat.values())):
            raise CheckpointError("training state: there are more averages than factors")
    return unpacked


def _unpacked(tensors: Mapping[str, torch.Tensor], name: str, dtype: torch.dtype) -> torch.Tensor:
    try:
        first = tensors[f"{name}.first"]
        last = zlib.decompress(tensors[f"{name}.last"].numpy().tobytes())
    except (KeyError, zlib.error) as error:
        raise CheckpointError(f"training state: {name} cannot be read ({error})") from error
    if first.shape != (len(last), dtype.itemsize - 1):
        raise CheckpointError(f"training state: the parts of {name} do not fit together")
    column = torch.frombuffer(bytearray(last), dtype=torch.uint8) if last else first[:, :1]
    return torch.cat([first, column.view(-1, 1)], 1).flatten().view(dtype)


def _name(kind: str, dtype: torch.dtype) -> str:
    return f"{kind}.{str(dtype).removeprefix('torch.')}"


def _bytes_of(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
