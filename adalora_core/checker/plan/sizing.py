"""Propose the largest ranks whose adapter fits into bytes, trained parameters or triplets."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from math import ceil, sqrt
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from adalora_core.checker.plan.costs import filled, size_of, trained_whole
from adalora_core.checker.plan.experts import replace_values
from adalora_core.checker.plan.header import TensorInfo, file_bytes
from adalora_core.checker.plan.lora import match_lora
from adalora_core.checker.plan.lora_layers import dtype_of
from adalora_core.floor.rank_pattern import TENSOR_PREFIX

if TYPE_CHECKING:
    from adalora_core.checker.plan.matching import Matched
    from adalora_core.checker.plan.modules import BaseModel
    from adalora_core.config.fields.block import Block

Unit = Literal["bytes", "parameters", "triplets"]

_MOST = "; no matrix can use a larger rank"
START_PER_TARGET = 1.5
"""The initial rank per target rank where the configuration has no such ratio: PEFT's 12 to 8."""


class Limit(NamedTuple):
    """The most that an adapter may come to."""

    amount: int
    unit: Unit

    def shown(self, amount: int) -> str:
        """Return an amount in the unit, for a text."""
        return size_of(amount) if self.unit == "bytes" else f"{amount:,} {self.unit}"


@dataclass(frozen=True, slots=True)
class Proposal:
    """The largest ranks that fit into a limit, as `{field: value}` of a configuration.

    `amount` is what it comes to, for AdaLoRA if every matrix keeps `target_r`, and `dearest` what
    the dearest choice of triplets comes to; for LoRA the same.
    """

    limit: Limit
    values: dict[str, Any]
    amount: int
    dearest: int
    note: str
    always_fits: dict[str, Any] | None = None
    """The values of the largest ranks that fit whatever training keeps, if there are any."""

    def as_text(self) -> str:
        """Return the proposal as text."""
        shown = self.limit.shown
        lines = [f"proposal for at most {shown(self.limit.amount)}: {_listed(self.values)}"]
        if "target_r" not in self.values:
            lines.append(f"{shown(self.amount)}; {self.note}")
        elif self.dearest == self.amount:
            lines += [f"{shown(self.amount)} at the end, whatever training keeps;", self.note]
        else:
            always = "no ranks always fit"
            if self.always_fits:
                always = f"{_listed(self.always_fits)} always fit"
            fits = "fits too" if self.dearest <= self.limit.amount else f"does not fit;\n  {always}"
            lines += [
                f"{shown(self.amount)} at the end if every matrix keeps target_r;",
                f"the dearest choice of triplets, {shown(self.dearest)}, {fits};",
                self.note,
            ]
        return "\n  ".join(lines) + "\n"

    def as_dict(self) -> dict[str, Any]:
        """Return the proposal as JSON values."""
        (limit, unit), fits = self.limit, self.dearest <= self.limit.amount
        return {"unit": unit, **asdict(self), "limit": limit, "dearest_fits": fits}


def for_adalora(block: Block, limit: Limit, matched: Matched, model: BaseModel) -> Proposal:
    """Return the largest `target_r` that fits if every matrix keeps it, with an `init_r`.

    `lora_alpha` is the whole number that keeps the scale best.

    Raises:
        ValueError: rank 1 does not fit.
    """
    order = sorted(matched.matrices, key=lambda each: -each.entries_per_rank)
    names = trained_whole(block["bias"], matched.saved, (each.path for each in order), model)
    whole = {TENSOR_PREFIX + name: model.tensors[name] for name in names}

    def amount(ranks: Sequence[int]) -> int:
        if limit.unit == "triplets":
            return sum(ranks)
        tensors = dict(whole)
        for each, rank in zip(order, ranks, strict=True):
            shapes = {"A": (rank, each.inputs), "B": (each.outputs, rank), "E": (rank, 1)}
            tensors |= {
                f"{TENSOR_PREFIX}{each.path}.lora_{name}": TensorInfo(dtype_of(each.dtype), shape)
                for name, shape in shapes.items()
            }
        entries = sum(each.entries for each in tensors.values())
        return entries if limit.unit == "parameters" else file_bytes(tensors)

    most = max(min(each.inputs, each.outputs) for each in order)
    target = _largest(limit, lambda rank: amount([rank] * len(order)), most)
    ratio = block["init_r"] / block["target_r"] if block["init_r"] > block["target_r"] else 0
    scale = block["lora_alpha"] / block["init_r"]

    def values(target: int) -> dict[str, int]:
        init = max(target + 1, ceil(target * (ratio or START_PER_TARGET)))
        return {"init_r": init, "target_r": target, "lora_alpha": max(1, round(scale * init))}

    def dearest(target: int) -> int:
        return amount(filled(target * len(order), values(target)["init_r"], len(order)))

    chosen, note = values(target), "lora_alpha keeps the scale"
    if (new := chosen["lora_alpha"] / chosen["init_r"]) != scale:
        note = f"the scale is {new:.4g}, not {scale:.4g}: lora_alpha is a whole number"
    note += _MOST * (target == most)
    always = bisect_right(range(1, target + 1), limit.amount, key=dearest)
    return Proposal(
        limit,
        chosen,
        amount([target] * len(order)),
        dearest(target),
        note,
        values(always) if always else None,
    )


def for_lora(block: Block, limit: Limit, model: BaseModel) -> Proposal:
    """Return the largest `r` that fits, with the `lora_alpha` that keeps the scale.

    Raises:
        ValueError: rank 1 does not fit, or patterns give every module its rank.
    """
    found = match_lora(block, model)
    factors = [list(each.tensors.values()) for each in found.adapted]
    most = max(min(a[1], b[0]) for a, b, *_ in factors)

    def amount(rank: int) -> int:
        made = match_lora(replace_values(block, r=rank), model)
        if limit.unit == "triplets":
            return sum(each.rank for each in made.adapted)
        return made.trained if limit.unit == "parameters" else file_bytes(made.file())

    if amount(1) == amount(2):
        raise ValueError("--budget: rank_pattern gives every module its rank; r changes nothing")
    rank = _largest(limit, amount, most)
    growth = rank / block["r"]
    alpha = block["lora_alpha"] * (sqrt(growth) if block["use_rslora"] else growth)
    values = {"r": rank, "lora_alpha": int(alpha) if alpha == int(alpha) else round(alpha, 4)}
    note = f"lora_alpha keeps the scale{_MOST * (rank == most)}"
    return Proposal(limit, values, amount(rank), amount(rank), note)


def _largest(limit: Limit, amount: Callable[[int], int], most: int) -> int:
    """Return the largest rank up to `most` that fits."""
    if (least := amount(1)) > limit.amount:
        wanted = f"more than {limit.shown(limit.amount)}"
        raise ValueError(f"--budget: rank 1 everywhere comes to {limit.shown(least)}, {wanted}")
    return bisect_right(range(1, most + 1), limit.amount, key=amount)


def _listed(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in values.items())
