"""Convert between an allocator and the tensors of a training state: dropped triplets and averages.

Averages are stored in two parts. The last byte of a number holds the sign and most of the exponent,
which differ little between numbers, so the last bytes are compressed. The other bytes are noise and
are stored as they are. The values stay equal bit for bit.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from adalora_core.allocation.statistics import average_dtype
from adalora_core.floor.escaping import visible
from adalora_core.nn.adapter_layer import FACTORS, TRIPLET_AXES
from adalora_core.sharding.layout import divided_like, whole
from adalora_core.training.adapter_file.tensors import whole_factors
from adalora_core.training.compaction import keep_rows
from adalora_core.training.training_state.progress import require

if TYPE_CHECKING:
    from adalora_core.allocation import RankAllocator
    from adalora_core.floor.rank_pattern import RankPattern
    from adalora_core.training.adapter import Adapter

AVERAGES = ("smoothed", "uncertainty")
DROPPED = "dropped."
_FAST = 1
"""zlib's level: a higher one takes longer and saves little."""


def factor_names(paths: Iterable[str]) -> list[str]:
    """Return `<path>.lora_{A,E,B}` of every module, in the order of the allocator's parameters."""
    return [f"{path}.{factor}" for path in paths for factor in FACTORS]


def dropped_factors(adapter: Adapter, pattern: RankPattern | None) -> dict[str, torch.Tensor]:
    """Return the factors of the triplets that `pattern` drops, `{dropped.path.factor: values}`.

    Modules without dropped triplets have none. With a sharded model every process has to call it.
    """
    dropped: dict[str, torch.Tensor] = {}
    for path, layer in adapter.layers.items():
        kept = set(adapter.rows_in(pattern, path))
        rows = [row for row in range(len(adapter.positions[path])) if row not in kept]
        if rows:
            factors = keep_rows(whole_factors(layer, adapter.name), rows)
            dropped |= {f"{DROPPED}{path}.{factor}": each for factor, each in factors.items()}
    return dropped


def joined_factors(
    tensors: dict[str, torch.Tensor],
    kept: Mapping[str, torch.Tensor],
    positions: Mapping[str, Sequence[int]],
    in_file: Mapping[str, Sequence[int]],
) -> dict[str, torch.Tensor]:
    """Return the factors of all triplets, `{path.factor: values}`: kept and dropped ones together.

    Those of dropped triplets are taken out of `tensors`, the others are in `kept`. `positions` are
    the original triplets of the rows of each module, and `in_file` those of them that are kept.
    """
    factors = {}
    for path, places in positions.items():
        name, held = f"positions of {path}", set(in_file[path])
        require(held <= set(places), name, f"all triplets of the adapter file, {held}", places)
        rest = [row for row, place in enumerate(places) if place not in held]
        first = [row for row, place in enumerate(places) if place in held]
        order = torch.tensor([*first, *rest], dtype=torch.long).argsort()
        for factor, axis in TRIPLET_AXES.items():
            part = kept[f"{path}.{factor}"]
            if rest:
                shape = list(part.shape)
                shape[axis] = len(rest)
                dropped = _take(tensors, f"{DROPPED}{path}.{factor}", part.dtype, shape)
                require(
                    bool(dropped.isfinite().all()),
                    f"{DROPPED}{path}.{factor}",
                    "finite numbers",
                    "others",
                )
                part = torch.cat([part, dropped], axis).index_select(axis, order).contiguous()
            factors[f"{path}.{factor}"] = part
    return factors


def take_lists(
    tensors: dict[str, torch.Tensor], kind: str, dtype: torch.dtype
) -> dict[str, list[int]]:
    """Take the vectors `<kind>.<path>` out of `tensors`, and return them as lists by path."""
    names = [name for name in tensors if name.startswith(f"{kind}.")]
    taken = {name: _take(tensors, name, dtype) for name in names}
    return {name.removeprefix(f"{kind}."): each.tolist() for name, each in taken.items()}


def pack_averages(allocator: RankAllocator) -> dict[str, torch.Tensor]:
    """Return both averages of every factor, `{kind.path.factor: bytes}`; nothing without averages.

    With a sharded model every process has to call it.
    """
    packed = {}
    names = factor_names(matrix.path for matrix in allocator.matrices)
    for kind in AVERAGES:
        # There are no averages in the final phase.
        for name, parameter, average in zip(
            names, allocator.parameters(), getattr(allocator.statistics, kind), strict=False
        ):
            packed[f"{kind}.{name}"] = _packed(whole(divided_like(parameter, average)))
    return packed


def take_averages(
    tensors: dict[str, torch.Tensor], factors: Mapping[str, torch.Tensor]
) -> dict[str, dict[str, torch.Tensor]]:
    """Take the averages of `factors` out of `tensors`: the inverse of `pack_averages`.

    The result is `{kind: {path.factor: values}}`, empty inside without averages.
    """
    if not any(name.startswith(f"{kind}.") for kind in AVERAGES for name in tensors):
        return {kind: {} for kind in AVERAGES}
    return {
        kind: {
            name: _unpacked(tensors, f"{kind}.{name}", factor) for name, factor in factors.items()
        }
        for kind in AVERAGES
    }


def _packed(average: torch.Tensor) -> torch.Tensor:
    entries = average.detach().cpu().contiguous().numpy().reshape(-1).view(np.uint8)
    by_entry = entries.reshape(-1, average.dtype.itemsize)
    last = np.frombuffer(zlib.compress(by_entry[:, -1].tobytes(), _FAST), np.uint8)
    return torch.from_numpy(np.concatenate([by_entry[:, :-1].ravel(), last]))


def _unpacked(tensors: dict[str, torch.Tensor], name: str, factor: torch.Tensor) -> torch.Tensor:
    dtype, count = average_dtype(factor.dtype), factor.numel()
    width = dtype.itemsize - 1
    first, rest = np.split(_take(tensors, name, torch.uint8).numpy(), [count * width])
    inflater = zlib.decompressobj()
    try:
        # Never more than there has to be: a few bytes can unfold to gigabytes.
        last = inflater.decompress(rest.tobytes(), count + 1)
    except zlib.error as error:
        raise ValueError(f"{visible(name)}: it cannot be unpacked ({error})") from error
    is_whole = inflater.eof and not inflater.unused_data and len(last) == count
    require(is_whole and len(first) == count * width, name, f"{count} entries", len(last))
    column = np.frombuffer(last, np.uint8).reshape(count, 1)
    entries = np.concatenate([first.reshape(count, width), column], 1)
    average = torch.from_numpy(entries.reshape(-1)).view(dtype).view(factor.shape)
    bad = average[~(average.isfinite() & (average >= 0))]
    require(not len(bad), name, "finite numbers from 0", bad.tolist())
    return average


def _take(
    tensors: dict[str, torch.Tensor],
    name: str,
    dtype: torch.dtype,
    shape: Sequence[int] | None = None,
) -> torch.Tensor:
    """Take a tensor out of `tensors`, after a check; without a `shape` it is any vector."""
    found = tensors.pop(name, None)
    if found is None:
        raise ValueError(f"{visible(name)}: there is no such tensor")
    expected = (dtype, [found.numel()] if shape is None else list(shape))
    of_file = (found.dtype, list(found.shape))
    require(of_file == expected, name, f"a tensor of {expected}", of_file)
    return found
