"""Write the folder of a LoRA adapter with a rank for each module, one module at a time."""

from __future__ import annotations

import json
import mmap
import re
import tempfile
from dataclasses import dataclass
from functools import cache
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from safetensors.torch import save
from torch.nn import functional

from adalora_core.floor.errors import CheckpointError
from adalora_core.floor.module_selection import targets_of
from adalora_core.training.adapter_file.folder import commit, encode_config
from adalora_core.training.compaction import TENSOR_PREFIX

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Mapping

_LENGTH_BYTES = _ALIGNMENT = 8
MOST_PADDING = _ALIGNMENT - 1
"""The most bytes that fill up the header of a file."""
_BASE = ".base_layer."


class Pair(NamedTuple):
    """A and B of a module as a file of LoRA holds them.

    Attributes:
        names: of A and B, without the prefix `base_model.model.`.
        A: a tensor `[rank, ...]` of the shape, at any rank, and the dtype of A.
        B: `[out, rank, ...]`, likewise.
    """

    names: tuple[str, str]
    A: torch.Tensor
    B: torch.Tensor

    def shapes(self, rank: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the shapes of A and B at a rank."""
        return (rank, *self.A.shape[1:]), (self.B.shape[0], rank, *self.B.shape[2:])

    @property
    def triplet_bytes(self) -> int:
        """Bytes of a row of A and a column of B."""
        (a, b), (in_a, in_b) = self.shapes(1), (self.A.itemsize, self.B.itemsize)
        return prod(a) * in_a + prod(b) * in_b


@dataclass(frozen=True, slots=True)
class LoraFile:
    """What a file of a LoRA adapter holds, but for the values of its factors.

    Attributes:
        pairs: the factors of each module by its path.
        ranks: the rank of each module; one of rank 0 is left out.
        others: tensors that are carried along, without the prefix `base_model.model.`.
        pad_ranks: give every module the largest rank, with rows and columns of zeros. Some loaders
            divide the one `lora_alpha` of the file by the rank of each module.
    """

    pairs: Mapping[str, Pair]
    ranks: Mapping[str, int]
    others: Mapping[str, torch.Tensor]
    pad_ranks: bool = False

    def written_ranks(self) -> dict[str, int]:
        """Return the rank in the file of each module that it holds."""
        largest = max(self.ranks.values(), default=0)
        written = {path: rank for path, rank in self.ranks.items() if rank}
        return dict.fromkeys(written, largest) if self.pad_ranks else written

    def entries(self) -> dict[str, dict[str, Any]]:
        """Return the header's entries in the order of their data."""
        found: dict[str, tuple[torch.dtype, tuple[int, ...]]] = {}
        ranks = self.written_ranks()
        for path, rank in ranks.items():
            pair = self.pairs[path]
            for name, like, shape in zip(pair.names, pair[1:], pair.shapes(rank), strict=True):
                found[name] = like.dtype, shape
        found |= {
            _name_without(name, ranks): (each.dtype, (*each.shape,))
            for name, each in self.others.items()
        }
        entries, end = {}, 0
        for name in sorted(found, key=lambda each: (-found[each][0].itemsize, each)):
            dtype, shape = found[name]
            begin, end = end, end + dtype.itemsize * prod(shape)
            entries[name] = {"dtype": _code(dtype), "shape": shape, "data_offsets": (begin, end)}
        return entries

    def size(self) -> int:
        """Return the bytes of the file."""
        entries = self.entries()
        ends = (entry["data_offsets"][1] for entry in entries.values())
        return len(_header(entries)) + max(ends, default=0)

    def entry_bytes(self) -> dict[str, int]:
        """Return the bytes of each module in the header; at lower ranks they are no more."""
        entries = self.entries()
        return {
            path: sum(
                # A comma instead of two braces.
                len(_json({TENSOR_PREFIX + name: entries[name]})) - 1
                for name in self.pairs[path].names
            )
            for path in self.written_ranks()
        }

    def write(
        self,
        folder: str | os.PathLike[str],
        settings: Mapping[str, Any],
        factors: Callable[[str], tuple[torch.Tensor, torch.Tensor]],
        command: str,
    ) -> None:
        """Write the adapter; files in `folder` are replaced after all new ones are on disk.

        Args:
            folder: created if missing.
            settings: fields of `adapter_config.json` besides those that follow from the ranks.
            factors: `path -> (A [rank, in], B [out, rank])`, with the scale of the module in them.
            command: what writes, for messages.

        Raises:
            CheckpointError: no rank is left, or a factor is beyond the range of its dtype.
            OSError: the folder cannot be written; nothing was replaced.
        """
        if not any(self.ranks.values()):
            raise CheckpointError(
                f"{command}: no triplet is left in any module, so there is nothing to export"
            )
        config = encode_config({**settings, **self._rank_settings()})
        places = (Path(folder).absolute(), *Path(folder).absolute().parents)
        with tempfile.TemporaryFile(dir=next(each for each in places if each.is_dir())) as file:
            file.write(_header(self.entries()))
            for tensor in self._tensors(factors, command):
                file.write(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
            file.flush()
            weights = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            commit(Path(folder), weights, config)

    def _tensors(
        self, factors: Callable[[str], tuple[torch.Tensor, torch.Tensor]], command: str
    ) -> Iterator[torch.Tensor]:
        """Yield all tensors in the order of the file."""
        ranks = self.written_ranks()
        owners = {name: path for path in ranks for name in self.pairs[path].names}
        others = {_name_without(name, ranks): each for name, each in self.others.items()}
        made: dict[str, torch.Tensor] = {}
        for name in self.entries():
            if name in others:
                yield others[name]
                continue
            if name not in made:
                path = owners[name]
                made |= zip(
                    self.pairs[path].names, self._of_module(path, factors, command), strict=True
                )
            yield made.pop(name)

    def _of_module(
        self,
        path: str,
        factors: Callable[[str], tuple[torch.Tensor, torch.Tensor]],
        command: str,
    ) -> Iterator[torch.Tensor]:
        rank, pair = self.written_ranks()[path], self.pairs[path]
        A, B = factors(path)
        missing = rank - len(A)
        padded = functional.pad(A, (0, 0, 0, missing)), functional.pad(B, (0, missing))
        for values, like, shape in zip(padded, pair[1:], pair.shapes(rank), strict=True):
            if not (tensor := values.to(like.dtype)).isfinite().all():
                raise CheckpointError(
                    f"{command}: the product of factors and scale of {path!r} is beyond the range "
                    f"of {like.dtype}; the adapter cannot be written as LoRA in this dtype"
                )
            yield tensor.reshape(shape)

    def _rank_settings(self) -> dict[str, Any]:
        ranks = self.written_ranks()
        # PEFT searches these keys in module names: without the anchor "a.q" would match "b.a.q".
        patterns = {f"^{re.escape(path)}": rank for path, rank in ranks.items()}
        largest = max(ranks.values())
        return {
            "peft_type": "LORA",
            "inference_mode": True,
            "init_lora_weights": True,
            "r": largest,
            "lora_alpha": largest,
            "target_modules": targets_of(sorted(ranks), self.ranks),
            "rank_pattern": patterns,
            "alpha_pattern": patterns,
        }


def _name_without(name: str, ranks: Mapping[str, int]) -> str:
    """Return the name of a tensor of a base layer, which is the module if that has no adapter."""
    path, found, last = name.rpartition(_BASE)
    return f"{path}.{last}" if found and path not in ranks else name


@cache
def _code(dtype: torch.dtype) -> str:
    """Return the name that safetensors gives a dtype."""
    raw = save({"x": torch.empty(0, dtype=dtype)})
    code: str = json.loads(raw[_LENGTH_BYTES:])["x"]["dtype"]
    return code


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def _header(entries: Mapping[str, dict[str, Any]]) -> bytes:
    described = {TENSOR_PREFIX + name: entry for name, entry in entries.items()}
    text = _json({"__metadata__": {"format": "pt"}, **described})
    text += b" " * (-len(text) % _ALIGNMENT)
    return len(text).to_bytes(_LENGTH_BYTES, "little") + text
