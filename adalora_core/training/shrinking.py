"""Make a trained LoRA or AdaLoRA adapter smaller: a rank for each module, without training.

The change of a module, `scale · B · diag(E) · A`, has the singular values of the small core
`scale · R_B · R_Aᵀ` of the QR decompositions of `B` and `(E · A)ᵀ`. Cut to its largest ones, the
change is the nearest of that rank. The file that is read is mapped.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from adalora_core.floor.adapter_spec import AdapterSpec
from adalora_core.floor.errors import CheckpointError
from adalora_core.floor.files import locked, object_in, refuse_links_out
from adalora_core.floor.rank_pattern import LoraScales
from adalora_core.ops.selection import select_triplets
from adalora_core.training import lora_export
from adalora_core.training.adapter_file import folder as files
from adalora_core.training.adapter_file.tensors import FACTOR_DTYPES
from adalora_core.training.lora_export import LoraFile, LoraModule, kernels_in

Parts = tuple[dict[str, LoraModule], dict[str, torch.Tensor], dict[str, Any]]

_FACTOR = re.compile(r"(.+)\.lora_(?:([AB])\.weight|embedding_([AB]))")
_KEPT = {
    *lora_export.CARRIED_OVER, "alora_invocation_tokens", "auto_mapping", "exclude_modules",
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
_LARGEST = 1e140
"""Bound on the numbers of a change: float64 must hold the sum of their squares."""
_MOST_PADDING = 7
"""The most bytes that fill up the header of a file."""


@dataclass(frozen=True, slots=True)
class TrainedAdapter:
    """A LoRA, rsLoRA or AdaLoRA adapter in its folder; `squares` are those of the singular values.

    `settings` are the fields of its configuration that stay, `bytes` is the size of its file.
    """

    folder: Path
    modules: Mapping[str, LoraModule]
    squares: Mapping[str, torch.Tensor]
    others: Mapping[str, torch.Tensor]
    settings: Mapping[str, Any]
    bytes: int

    def ranks_with(self, energy: float) -> dict[str, int]:
        """Return the smallest ranks that keep this part of each module's squares."""
        sums = {path: each.cumsum(0) for path, each in self.squares.items()}
        return {path: int((s < energy * s[-1:]).sum()) + bool(len(s)) for path, s in sums.items()}

    def file(self, ranks: Mapping[str, int], **options: bool) -> LoraFile:
        """Return the layout of its file at some ranks."""
        return LoraFile(self.modules, ranks, self.others, **options)


@dataclass(frozen=True, slots=True)
class ShrunkAdapter:
    """An adapter, and the ranks and the file to cut it to."""

    adapter: TrainedAdapter
    ranks: Mapping[str, int]
    file: LoraFile

    def energy(self, *paths: str) -> float:
        """Return the part of the squared singular values that some or all modules keep."""
        squares = {path: self.adapter.squares[path] for path in paths or self.ranks}
        total = sum(float(each.sum()) for each in squares.values())
        kept = sum(float(each[: self.ranks[path]].sum()) for path, each in squares.items())
        return kept / total if total else 1.0

    def write(self, destination: str | os.PathLike[str]) -> None:
        """Write the LoRA adapter; raises as `LoraFile.write`, also if it would replace its source.

        A and B get the roots of the singular values each.
        """

        def factors(path: str) -> tuple[torch.Tensor, torch.Tensor]:
            U, values, V = _decomposed(self.adapter.modules[path])
            rank = self.ranks[path]
            roots = values[:rank].sqrt()
            return roots[:, None] * V[:rank], U[:, :rank] * roots

        lora_export.refuse_same(self.adapter.folder, destination, "shrink")
        with _one_thread():
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
        ValueError: the limit is out of its range.
    """
    if rank is not None and not 0 < rank < math.inf:
        raise ValueError(f"a mean rank is above 0, got {rank:g}")
    if energy is not None and not 0 < energy <= 1:
        raise ValueError(f"an energy is above 0 and at most 1, got {energy:g}")
    squares = adapter.squares
    if not any(map(len, squares.values())):
        raise _refused(adapter.folder, "it changes nothing: it has no singular value above 0")
    if rank is not None:
        lengths, flat = [len(each) for each in squares.values()], torch.cat([*squares.values()])
        mask = select_triplets(flat, int(rank * len(lengths)), [flat[:, None].clone()])
        ranks = {p: int(each.sum()) for p, each in zip(squares, mask.split(lengths), strict=True)}
    elif energy is not None:
        ranks = adapter.ranks_with(energy)
    else:
        ranks = _within(budget or 0, adapter, pad_ranks=pad_ranks)
    if not any(ranks.values()):
        raise CheckpointError(
            "shrink: the limit leaves no singular value in any module; raise it (without any the "
            f"file has {adapter.file({}).size} bytes)"
        )
    return ShrunkAdapter(adapter, ranks, adapter.file(ranks, pad_ranks=pad_ranks))


def _within(budget: int, adapter: TrainedAdapter, *, pad_ranks: bool) -> dict[str, int]:
    """Return ranks whose file has at most `budget` bytes; none if no triplet fits."""
    most = {path: len(each) for path, each in adapter.squares.items()}
    if pad_ranks:
        for rank in range(max(most.values()), 0, -1):
            ranks = {path: min(rank, each) for path, each in most.items()}
            if adapter.file(ranks, pad_ranks=True).size <= budget:
                return ranks
        return {}
    largest, ranks = adapter.file(most), dict.fromkeys(most, 0)
    # The bytes of a row of A and a column of B.
    costs = {p: each.A[:1].nbytes + each.B[:, :1].nbytes for p, each in adapter.modules.items()}
    more = {path: largest.entry_bytes.get(path, 0) for path in most}
    # What is not of a module is never more than in the largest file, but for its padding.
    modules = sum(costs[path] * each + more[path] for path, each in most.items())
    left = budget - (largest.size - modules) - _MOST_PADDING
    pairs = adapter.squares.items()
    scores = [(value / costs[path], path) for path, each in pairs for value in each.tolist()]
    for _, path in sorted(scores, key=lambda each: -each[0]):
        if (cost := costs[path] + more[path]) <= left:
            ranks[path], left, more[path] = ranks[path] + 1, left - cost, 0
    return ranks


def _refuse_large(module: LoraModule, *parts: torch.Tensor) -> None:
    """Raise a CheckpointError where float64 may not hold the squares of all numbers."""
    if not all((part.abs() < _LARGEST).all() for part in parts):
        raise CheckpointError(
            f"the change of {module.names[0]!r} has numbers of {_LARGEST:g} or more, or none; "
            "train it again with a smaller learning rate"
        )


def _decomposed(module: LoraModule) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return U, the singular values and Vᵀ of the change, in float64, without those of 0."""
    A, B = module.A.flatten(1).double() * module.E, module.B.flatten(1).double()
    (Q_A, R_A), (Q_B, R_B) = torch.linalg.qr(A.T), torch.linalg.qr(B)
    change = module.scale * R_B @ R_A.T
    _refuse_large(module, change)
    U, values, V = torch.linalg.svd(change, full_matrices=False)
    smallest = torch.finfo(torch.float64).eps * max(A.shape[1], len(B)) * values[:1]
    count = int((values > smallest).sum())
    return Q_B @ U[:, :count], values[:count], V[:count] @ Q_A.T


def _near_squares(module: LoraModule) -> torch.Tensor:
    """Return the squared singular values from the Gram matrices of the factors.

    In a tenth of the time of a decomposition; those below 1e-15 of the largest are lost.
    """
    A, B = module.A.flatten(1).double() * module.E, module.B.flatten(1).double()
    _refuse_large(module, A, B)
    values, U = torch.linalg.eigh(B.T @ B)
    root = U * values.clamp(min=0).sqrt() * module.scale
    _refuse_large(module, root)
    squares: torch.Tensor = torch.linalg.eigvalsh(root.T @ (A @ A.T) @ root).flip(0)
    return squares[squares > torch.finfo(torch.float64).eps * max(A.shape) * squares[:1]]


def read_trained(folder: str | os.PathLike[str], *, is_exact: bool = True) -> TrainedAdapter:
    """Read a LoRA, rsLoRA or AdaLoRA adapter, and decompose each change.

    If it is not `is_exact`, singular values below 3e-8 of a module's largest may be missing.

    Raises:
        CheckpointError: the folder is incomplete, damaged, of another method, or of a kind of LoRA
            whose change is not the product of its factors.
        ValueError: the configuration is no JSON object, or breaks the contract of AdaLoRA.
        OSError: a file cannot be read.
    """
    folder = Path(folder)
    with locked(folder, shared=True):
        refuse_links_out(folder)
        values = object_in(files.config_in(folder))
        if values.get("peft_type") == "ADALORA":
            saved = files.read_adapter(folder)
            lora_export.warn_if_folder_is_unfinished(saved, "shrunk")
            scale = AdapterSpec.of(saved.config).scale
            modules, others = lora_export.modules_of(saved, kernels_in(saved), scale), saved.tensors
            settings = lora_export.lora_settings(saved.config)
        elif values.get("peft_type") == "LORA":
            modules, others, settings = _of_lora(folder, values)
        else:
            raise _refused(folder, "its peft_type is neither LORA nor ADALORA")
        weights = files.weights_in(folder)
        size = weights.stat().st_size if weights else 0
    with _one_thread():
        squares = {
            path: _decomposed(each)[1].square() if is_exact else _near_squares(each)
            for path, each in modules.items()
        }
    return TrainedAdapter(folder, modules, squares, others, settings, size)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch compute with one thread: for thin matrices more of them mostly wait."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _of_lora(folder: Path, values: Mapping[str, Any]) -> Parts:
    """Return the modules, the other tensors and the settings to keep of a LoRA adapter."""
    if unknown := sorted(name for name in values.keys() - _KEPT - _REPLACED if values[name]):
        raise _refused(folder, f"{', '.join(unknown)} in its configuration is set")
    if values.get("init_lora_weights") not in _STARTS:
        why = "its init_lora_weights changes the base model; convert it to plain LoRA when saving"
        raise _refused(folder, why)
    tensors = files.tensors_in(folder)
    found = {name: each for name in tensors if (each := _FACTOR.fullmatch(name))}
    if odd := [name for name in tensors if ".lora_" in name and name not in found]:
        raise _refused(folder, f"its tensor {odd[0]!r} is not of plain LoRA")
    held: dict[str, dict[str, str]] = {}
    for name, each in found.items():
        held.setdefault(each[1], {})[each[2] or each[3]] = name
    scales, modules = LoraScales(values), {}
    for path, names in held.items():
        factors = {factor: tensors.pop(name) for factor, name in names.items()}
        try:
            A, B = _checked(path, factors)
            told, alpha, scale = scales.of(path)
            if told != len(A):
                given = f"rank {told} and alpha {alpha:g}"
                why = f"has tensors of rank {len(A)}, and the configuration gives {given}"
                raise ValueError(why)  # noqa: TRY301
        except ValueError as error:
            raise _refused(folder, f"{path!r} {error}") from None
        modules[path] = LoraModule((names["A"], names["B"]), A, B, 1.0, scale)
    is_tied = values.get("ensure_weight_tying") and values.get("modules_to_save")
    kept = _KEPT | ({"ensure_weight_tying"} if is_tied else set())
    settings = {name: values[name] for name in kept if values.get(name) is not None}
    return modules, tensors, settings


def _checked(path: str, factors: Mapping[str, torch.Tensor]) -> list[torch.Tensor]:
    """Return A and B; raise ValueError if their product is not the change of their module."""
    if len(factors) != len("AB"):
        raise ValueError("lacks a factor")
    A, B = factors["A"], factors["B"]
    if ".base_layer." in f"{path}.":
        raise ValueError("is inside another adapted module, whose rank it has")
    if not {A.dtype, B.dtype} <= {*FACTOR_DTYPES}:
        raise ValueError(f"has factors of {A.dtype} and {B.dtype}")
    if min(A.dim(), B.dim()) < 2 or len(A) != B.shape[1] or B[:1, :1].numel() > 1:  # noqa: PLR2004
        shapes = f"{[*A.shape]} and {[*B.shape]}"
        raise ValueError(f"has factors of shapes {shapes}, which do not fit together")
    # A tenth of the time of isfinite(): a NaN is both the smallest and the largest number.
    if not all(torch.stack(each.aminmax()).isfinite().all() for each in (A, B) if each.numel()):
        raise ValueError("has factors with entries that are not finite numbers")
    return [A, B]


def _refused(folder: Path, why: str) -> CheckpointError:
    return CheckpointError(f"the singular values of {str(folder)!r} cannot be computed: {why}")
