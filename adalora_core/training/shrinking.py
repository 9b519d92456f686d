"""Make a trained LoRA or AdaLoRA adapter smaller: a rank for each module, without training.

The change of a module, `scale · B · diag(E) · A`, has the singular values of the small core
`scale · R_B · R_Aᵀ` of the QR decompositions of `B` and `(E · A)ᵀ`. Cut to its largest ones, the
change is the nearest of that rank. Files are mapped and not read as a whole: one module at a time
is in memory.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from adalora_core.allocation.fitting import most_important
from adalora_core.config.json_file import object_in
from adalora_core.floor.adapter_spec import AdapterSpec
from adalora_core.floor.errors import CheckpointError
from adalora_core.floor.expressions.matching import Matcher
from adalora_core.floor.files import locked
from adalora_core.floor.regular_files import is_link_out
from adalora_core.nn.adapter_layer import FACTORS
from adalora_core.ops.selection import select_triplets
from adalora_core.training.adapter_file.checks import FACTOR_DTYPES, row_positions
from adalora_core.training.adapter_file.folder import (
    config_in,
    read_adapter,
    tensors_in,
    weights_in,
)
from adalora_core.training.adapter_file.lora import MOST_PADDING, LoraFile, Pair
from adalora_core.training.lora_export import CARRIED_OVER, lora_settings

if TYPE_CHECKING:
    import os
    from collections.abc import Collection, Mapping

_FACTOR = re.compile(r"(.+)\.lora_(?:([AB])\.weight|embedding_([AB]))")
_KEPT = {
    *CARRIED_OVER, "alora_invocation_tokens", "auto_mapping", "exclude_modules",
    "layer_replication", "trainable_token_indices",
}  # fmt: skip
_REPLACED = {
    "alpha_pattern", "corda_config", "ensure_weight_tying", "eva_config", "inference_mode",
    "init_lora_weights", "layers_pattern", "layers_to_transform", "loftq_config", "lora_alpha",
    "lora_ga_config", "megatron_core", "peft_type", "peft_version", "qalora_group_size", "r",
    "rank_pattern", "target_modules", "use_rslora",
}  # fmt: skip
"""Settings that follow from the ranks, or that only choose how training begins."""
_STARTS = (None, True, False, "gaussian", "eva", "orthogonal")
"""Values of `init_lora_weights` that leave the weights of the base model alone."""


class _Module(NamedTuple):
    """The factors of a module, as they are in the file."""

    pair: Pair
    E: torch.Tensor | None
    scale: float

    def decomposed(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return U, the singular values and Vᵀ of the change, in float64, without those of 0."""
        A, B = self.pair.A.flatten(1).double(), self.pair.B.flatten(1).double()
        Q_A, R_A = torch.linalg.qr((A if self.E is None else A * self.E).T)
        Q_B, R_B = torch.linalg.qr(B)
        U, values, V = torch.linalg.svd(self.scale * R_B @ R_A.T, full_matrices=False)
        smallest = torch.finfo(torch.float64).eps * max(A.shape[1], len(B)) * values[:1]
        count = int((values > smallest).sum())
        return Q_B @ U[:, :count], values[:count], V[:count] @ Q_A.T


@dataclass(frozen=True, slots=True)
class TrainedAdapter:
    """A LoRA, rsLoRA or AdaLoRA adapter in its folder.

    Attributes:
        folder: the folder.
        modules: the adapted modules by path.
        singular_values: those of the change of each module, descending.
        others: tensors that belong to no adapted module.
        settings: fields of the configuration that stay as they are.
        bytes: size of the file with the weights.
    """

    folder: Path
    modules: Mapping[str, _Module]
    singular_values: Mapping[str, torch.Tensor]
    others: Mapping[str, torch.Tensor]
    settings: Mapping[str, Any]
    bytes: int

    def file(self, ranks: Mapping[str, int], *, pad_ranks: bool = False) -> LoraFile:
        """Return what the file holds at some ranks."""
        pairs = {path: each.pair for path, each in self.modules.items()}
        return LoraFile(pairs, ranks, self.others, pad_ranks)


@dataclass(frozen=True, slots=True)
class ShrunkAdapter:
    """An adapter and the ranks to cut it to.

    Attributes:
        adapter: the trained adapter.
        file: the file to write.
        kept: by path, the part of the squared singular values that is kept.
        energy: that part over all modules together.
    """

    adapter: TrainedAdapter
    file: LoraFile
    kept: Mapping[str, float]
    energy: float

    def write(self, destination: str | os.PathLike[str]) -> None:
        """Write the LoRA adapter.

        Raises:
            CheckpointError: a factor is beyond the range of its dtype; nothing was written.
            OSError: `destination` cannot be written; nothing was replaced.
        """

        def factors(path: str) -> tuple[torch.Tensor, torch.Tensor]:
            U, values, V = self.adapter.modules[path].decomposed()
            rank = self.file.ranks[path]
            roots = values[:rank].sqrt()
            return roots[:, None] * V[:rank], U[:, :rank] * roots

        self.file.write(destination, self.adapter.settings, factors, "shrink")


def shrink(
    adapter: TrainedAdapter,
    *,
    rank: float | None = None,
    budget: int | None = None,
    energy: float | None = None,
    pad_ranks: bool = False,
) -> ShrunkAdapter:
    """Choose the rank of each module by one of three limits; nothing is written.

    Args:
        adapter: the trained adapter.
        rank: the mean rank: the largest singular values over all modules are kept.
        budget: bytes of the file: the largest squared singular values per byte are kept.
        energy: the part of its squared singular values that each module keeps at least.
        pad_ranks: as in `LoraFile`; with a budget all modules get one rank.

    Raises:
        CheckpointError: the adapter changes nothing, or nothing of it fits.
    """
    found = adapter.singular_values
    squares = {path: each.square() for path, each in found.items()}
    if not (total := sum(float(each.sum()) for each in squares.values())):
        raise CheckpointError(
            f"shrink: {str(adapter.folder)!r} changes nothing: every singular value is 0"
        )
    if rank is not None:
        mask = select_triplets(
            torch.cat(list(squares.values())),
            int(rank * len(found)),
            [each[:, None].clone() for each in found.values()],
        )
        parts = mask.split([len(each) for each in found.values()])
        ranks = {path: int(part.sum()) for path, part in zip(found, parts, strict=True)}
    elif energy is not None:
        ranks = {path: _rank_for(energy, each) for path, each in squares.items()}
    else:
        ranks = _within(budget or 0, adapter, squares, pad_ranks=pad_ranks)
    if not any(ranks.values()):
        raise CheckpointError("shrink: the limit leaves no singular value in any module; raise it")
    kept = {path: float(squares[path][:each].sum()) for path, each in ranks.items()}
    parts_kept = {
        path: kept[path] / float(squares[path].sum()) if len(squares[path]) else 1.0
        for path in ranks
    }
    file = adapter.file(ranks, pad_ranks=pad_ranks)
    return ShrunkAdapter(adapter, file, parts_kept, sum(kept.values()) / total)


def _rank_for(energy: float, squares: torch.Tensor) -> int:
    """Return the smallest rank that keeps the part `energy` of a module."""
    sums = squares.cumsum(0)
    return int((sums < energy * sums[-1]).sum()) + 1 if len(sums) else 0


def _within(
    budget: int, adapter: TrainedAdapter, squares: Mapping[str, torch.Tensor], *, pad_ranks: bool
) -> dict[str, int]:
    """Return ranks whose file has at most `budget` bytes."""
    most = {path: len(each) for path, each in squares.items()}
    nothing, whole = adapter.file(dict.fromkeys(most, 0)).size(), adapter.file(most)
    costs = {path: each.pair.triplet_bytes for path, each in adapter.modules.items()}
    entries = whole.entry_bytes()
    if pad_ranks:
        for rank in range(max(most.values()), 0, -1):
            ranks = {path: min(rank, each) for path, each in most.items()}
            if adapter.file(ranks, pad_ranks=True).size() <= budget:
                return ranks
    else:
        # What is not of a module is never more than in the largest file.
        others = sum(costs[path] * each for path, each in most.items()) + sum(entries.values())
        left = budget - (whole.size() - others) - MOST_PADDING
        scores = {path: each / costs[path] for path, each in squares.items()}
        kept = most_important(scores, costs, left, entries)
        ranks = {path: int(each.sum()) for path, each in kept.items()}
        if any(ranks.values()):
            return ranks
    least = min(costs[path] + entries[path] for path in entries)
    raise CheckpointError(
        f"shrink: {budget} bytes leave no room for a singular value, which takes {least} bytes or "
        f"more in the file; what is carried along takes {nothing}; raise the budget"
    )


def read_trained(folder: str | os.PathLike[str]) -> TrainedAdapter:
    """Read a LoRA, rsLoRA or AdaLoRA adapter and decompose the change of each module.

    Raises:
        CheckpointError: the folder is incomplete, damaged, of another method, or of a kind of LoRA
            whose change is not the product of its factors.
        ConfigError: the configuration of an AdaLoRA adapter breaks the contract.
        OSError: a file cannot be read.
    """
    folder = Path(folder)
    with locked(folder, shared=True):
        path = config_in(folder)
        try:
            values = object_in(path)
        except ValueError as error:
            text = f"{str(path)!r} is not a configuration" if is_link_out(path) else str(error)
            raise CheckpointError(f"shrink: {text}") from None
        if values.get("peft_type") == "ADALORA":
            modules, others, settings = _of_adalora(folder)
        elif values.get("peft_type") == "LORA":
            modules, others, settings = _of_lora(folder, values)
        else:
            raise CheckpointError(
                f"shrink: the peft_type in {str(path)!r} is neither LORA nor ADALORA; other "
                "methods cannot be cut by their singular values"
            )
        weights = weights_in(folder)
        size = weights.stat().st_size if weights else 0
    found = {path: each.decomposed()[1] for path, each in modules.items()}
    return TrainedAdapter(folder, modules, found, others, settings, size)


_Parts = tuple[dict[str, _Module], dict[str, torch.Tensor], dict[str, Any]]


def _of_adalora(folder: Path) -> _Parts:
    saved = read_adapter(folder)
    row_positions(saved)  # checks the factors
    scale = AdapterSpec.of(saved.config).scale
    modules = {}
    for path in saved.paths():
        A, E, B = (saved.tensors.pop(f"{path}.{factor}") for factor in FACTORS)
        names = f"{path}.lora_A.weight", f"{path}.lora_B.weight"
        modules[path] = _Module(Pair(names, A, B), E.double(), scale)
    return modules, saved.tensors, lora_settings(saved.config)


def _of_lora(folder: Path, values: Mapping[str, Any]) -> _Parts:
    if unknown := sorted(name for name in values.keys() - _KEPT - _REPLACED if values[name]):
        raise _refused(folder, f"{', '.join(unknown)} in its configuration is set")
    if values.get("init_lora_weights") not in _STARTS:
        why = "its init_lora_weights changes the base model; convert it to plain LoRA when saving"
        raise _refused(folder, why)
    names: dict[str, dict[str, str]] = {}
    others = tensors_in(folder)
    for name in others:
        if found := _FACTOR.fullmatch(name):
            names.setdefault(found[1], {})[found[2] or found[3]] = name
        elif ".lora_" in name:
            raise _refused(folder, f"its tensor {name!r} is not of plain LoRA")
    scales = _Scales(folder, values, names)
    modules = {}
    for path, held in names.items():
        if len(held) != len("AB"):
            raise _refused(folder, f"a factor of {path!r} is missing")
        if ".base_layer." in f"{path}.":
            raise _refused(folder, f"{path!r} is inside another adapted module, whose rank it has")
        A, B = others.pop(held["A"]), others.pop(held["B"])
        _check(folder, path, A, B)
        modules[path] = _Module(Pair((held["A"], held["B"]), A, B), None, scales.of(path, len(A)))
    if not modules:
        raise _refused(folder, "it holds no factors of any module")
    tied = values.get("ensure_weight_tying") and values.get("modules_to_save")
    names_kept = [*_KEPT, *["ensure_weight_tying"] * bool(tied)]
    settings = {name: values[name] for name in names_kept if values.get(name) is not None}
    return modules, others, settings


class _Scales:
    """The scales of the modules of a LoRA configuration, as PEFT reads them."""

    def __init__(self, folder: Path, values: Mapping[str, Any], paths: Collection[str]) -> None:
        self._folder, self._values, self._matcher = folder, values, Matcher()
        # One of the keys that this package writes needs no search.
        self._owners = {f"^{re.escape(path)}": path for path in paths}

    def of(self, path: str, rank: int) -> float:
        """Return the scale of a module whose tensors have `rank` triplets."""
        told, alpha = (
            self._for("rank_pattern", "r", path),
            self._for("alpha_pattern", "lora_alpha", path),
        )
        if told != rank or not rank:
            why = f"its configuration gives {path!r} rank {told}, and its tensors have rank {rank}"
            raise _refused(self._folder, why)
        return alpha / (math.sqrt(rank) if self._values.get("use_rslora") else rank)

    def _for(self, pattern: str, usual: str, path: str) -> float:
        value = self._values.get(usual, 8)
        entries = self._values.get(pattern) or {}
        for key, own in entries.items() if isinstance(entries, dict) else ():
            if self._owners.get(key, path) == path and self._matches(key, path, pattern):
                value = own
                break
        if type(value) not in (int, float) or not math.isfinite(value):
            raise _refused(self._folder, f"its {usual} for {path!r} is not a number")
        return float(value)

    def _matches(self, key: str, path: str, pattern: str) -> bool:
        if key in self._owners:
            return True
        try:
            return self._matcher.find("match", rf"(.*\.)?({key})$", path, pattern) is not None
        except re.error:
            raise _refused(self._folder, f"{key!r} in its {pattern} is no expression") from None


def _check(folder: Path, path: str, A: torch.Tensor, B: torch.Tensor) -> None:
    """Refuse factors whose product is not the change of a module."""
    if A.dtype not in FACTOR_DTYPES or B.dtype not in FACTOR_DTYPES:
        raise _refused(folder, f"the factors of {path!r} are of {A.dtype} and {B.dtype}")
    if A.dim() < 2 or B.dim() < 2 or len(A) != B.shape[1] or B[0, :1].numel() > 1:  # noqa: PLR2004
        shapes = f"{list(A.shape)} and {list(B.shape)}"
        raise _refused(folder, f"the factors of {path!r} have shapes {shapes}, which do not fit")
    if not (A.isfinite().all() and B.isfinite().all()):
        raise _refused(folder, f"the factors of {path!r} have entries that are not finite numbers")


def _refused(folder: Path, why: str) -> CheckpointError:
    return CheckpointError(f"shrink: {str(folder)!r} cannot be cut by its singular values: {why}")
