"""Propose the largest ranks whose adapter fits into bytes, trained parameters or triplets."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import ceil, sqrt
from typing import Any, Literal, NamedTuple

from adalora_core.checker.plan.header import TensorInfo, file_bytes
from adalora_core.checker.plan.modules import FACTOR, Injected, RefusedError
from adalora_core.checker.plan.plan import filled, size_of
from adalora_core.config.fields.block import Block
from adalora_core.floor.rank_pattern import TENSOR_PREFIX

Unit = Literal["bytes", "parameters", "triplets"]
Inject = Callable[[int], Injected]
"""Inject the configuration with another rank everywhere; RefusedError: it cannot have that rank."""

_MOST = "; no matrix can use a larger rank"
START_PER_TARGET = 1.5
"""The initial rank per target rank where the configuration has no such ratio: PEFT's 12 to 8."""


class Limit(NamedTuple):
    """The most that an adapter may come to."""

    amount: int
    unit: Unit
    is_binary: bool = False
    """Whether bytes are shown by 1024, in KiB and MiB."""

    def shown(self, amount: int) -> str:
        """Return an amount in the unit, for a text."""
        if self.unit == "bytes":
            return size_of(amount, binary=self.is_binary)
        return f"{amount:,} {self.unit}"


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
        limit, unit, _ = self.limit
        fits = self.dearest <= limit
        return {"unit": unit, **asdict(self), "limit": limit, "dearest_fits": fits}


def for_adalora(block: Block, limit: Limit, found: Injected, inject: Inject) -> Proposal:
    """Return the largest `target_r` that fits if every matrix keeps it, with an `init_r`.

    `lora_alpha` is the whole number that keeps the scale best.

    Raises:
        ValueError: rank 1 does not fit.
    """
    order = sorted(found.adapted, key=lambda each: -each.entries)
    whole = {name: info for name, info in found.file.items() if FACTOR not in name}

    def amount(ranks: Sequence[int]) -> int:
        if limit.unit == "triplets":
            return sum(ranks)
        tensors = {}
        for each, rank in zip(order, ranks, strict=True):
            for name, shape in each.tensors.items():
                new = (shape[0], rank) if name == "lora_B" else (rank, *shape[1:])
                tensors[f"{TENSOR_PREFIX}{each.owner}.{name}"] = TensorInfo(each.dtype, new)
        if limit.unit == "parameters":
            return found.beside + sum(each.entries for each in tensors.values())
        return file_bytes(whole | tensors)

    def everywhere(rank: int) -> int:
        return amount([rank] * len(order))

    most = max(min(each.inputs, each.outputs) for each in found.matrices)
    target = _proven(limit, everywhere, most, inject)
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
    safe = values(always) if always else None
    return Proposal(limit, chosen, everywhere(target), dearest(target), note, safe)


def for_lora(block: Block, limit: Limit, found: Injected, inject: Inject) -> Proposal:
    """Return the largest `r` that fits, with the `lora_alpha` that keeps the scale.

    Raises:
        ValueError: rank 1 does not fit, or patterns give every module its rank.
    """
    start: int = block["r"]
    # Factors of a grouped convolution have multiples of its groups.
    doubled = inject(2 * start)
    if doubled.count == found.count:
        raise ValueError("--budget: rank_pattern gives every module its rank; r changes nothing")
    shapes = [list(each.tensors.values()) for each in doubled.adapted]
    most = max(min(a[1], b[0]) for a, b, *_ in shapes)

    def amount(rank: int) -> int:
        if limit.unit == "bytes":
            return file_bytes(_at(rank, start, found.file, doubled.file))
        one, two = (_amount(limit, each) for each in (found, doubled))
        return one + (two - one) * (rank - start) // start

    rank = _proven(limit, amount, most, inject)
    growth = rank / start
    alpha = block["lora_alpha"] * (sqrt(growth) if block["use_rslora"] else growth)
    values = {"r": rank, "lora_alpha": int(alpha) if alpha == int(alpha) else round(alpha, 4)}
    note = f"lora_alpha keeps the scale{_MOST * (rank == most)}"
    return Proposal(limit, values, amount(rank), amount(rank), note)


def _at(
    rank: int, start: int, one: Mapping[str, TensorInfo], two: Mapping[str, TensorInfo]
) -> dict[str, TensorInfo]:
    """Return tensors for a rank, from those for a rank and for twice as much."""
    return {
        name: TensorInfo(
            info.dtype,
            tuple(
                size + (other - size) * (rank - start) // start
                for size, other in zip(info.shape, two[name].shape, strict=True)
            ),
        )
        for name, info in one.items()
    }


def _amount(limit: Limit, found: Injected) -> int:
    if limit.unit == "triplets":
        return sum(each.rank for each in found.adapted)
    return found.count if limit.unit == "parameters" else file_bytes(found.file)


def _proven(limit: Limit, amount: Callable[[int], int], most: int, inject: Inject) -> int:
    """Return the largest rank up to `most` that fits, proven by injecting it and the next one."""
    if (least := amount(1)) > limit.amount:
        wanted = f"more than {limit.shown(limit.amount)}"
        raise ValueError(f"--budget: rank 1 everywhere comes to {limit.shown(least)}, {wanted}")
    rank = bisect_right(range(1, most + 1), limit.amount, key=amount)

    def fits(rank: int) -> bool:
        try:
            return _amount(limit, inject(rank)) <= limit.amount
        except RefusedError:
            return False

    while rank > 1 and not fits(rank):
        rank -= 1
    while rank < most and fits(rank + 1):
        rank += 1
    return rank


def _listed(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in values.items())
