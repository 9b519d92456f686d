"""Report the ranks of a saved LoRA adapter, and how much of them its training has used."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

from adalora_core.checker.plan.adapter_tensors import SavedLora
from adalora_core.commands.rank_report.report import RankReport, code, literal
from adalora_core.floor.errors import CheckpointError, MissingExtraError

if TYPE_CHECKING:
    from pathlib import Path

ENERGY = 0.9
"""The part of a module's squared singular values that its effective rank holds."""

Modules = Sequence[Mapping[str, Any]]


def measure(folder: Path, values: Mapping[str, Any]) -> tuple[Modules, str]:
    """Return what is known of each module, and why norms and effective ranks are not among it.

    Raises:
        OSError: the weights cannot be read.
        ValueError: the tensors are not those of the configuration.
    """
    saved = SavedLora(folder, values)
    still = saved.require_sound()
    modules: list[dict[str, Any]] = [
        {"module": path, "rank": each.rank, "scale": each.scale, "moved": path not in still}
        for path, each in saved.scales().items()
    ]
    try:
        from adalora_core.training.shrinking import read_trained

        adapter = read_trained(folder, is_exact=False)
    except ModuleNotFoundError as error:
        return modules, str(MissingExtraError(error.name or "torch", "torch", "a norm"))
    except CheckpointError as error:
        return modules, str(error)
    used = adapter.ranks_with(ENERGY)
    for each in modules:
        squares = adapter.squares[each["module"]]
        each |= {"norm": math.sqrt(float(squares.sum())), "effective_rank": used[each["module"]]}
    return modules, ""


def lora_report(modules: Modules, *, name: str, why: str) -> RankReport:
    """Return the report on what `measure` returned."""
    key, what = ("rank", "Rank") if why else ("effective_rank", "Effective rank")
    largest = max(each["rank"] for each in modules)
    ranks = {each["module"]: each[key] for each in modules}
    return RankReport(name, [*_summary(modules, why), "", *_table(modules)], ranks, largest, what)


def _summary(modules: Modules, why: str) -> list[str]:
    ranks, scales = ([each[key] for each in modules] for key in ("rank", "scale"))
    mean = fmean(ranks)
    lines = [
        f"{len(modules)} modules of rank {_span(ranks)}, mean {mean:.2f}; scale {_span(scales)}."
    ]
    if why:
        lines.append(f"Without norms and effective ranks: {literal(why)}.")
    else:
        norm = math.hypot(*(each["norm"] for each in modules))
        used = fmean(each["effective_rank"] for each in modules)
        lines += [
            f"Norm of the whole change: {norm:.4g}. Mean effective rank, the fewest singular",
            f"values with {ENERGY:.0%} of a module's energy (their squares): {used:.2f}.",
        ]
    still, count = sum(not each["moved"] for each in modules), len(modules)
    moved = f"{still} of {count} modules did not move, so "
    moved += "it changes nothing." if still == 1 else "they change nothing."
    if still in {0, count}:
        nothing = "No module moved: the adapter changes nothing."
        moved = nothing if still else f"All {count} modules moved."
    return [*lines, moved]


def _span(numbers: Sequence[float]) -> str:
    least, most = f"{min(numbers):.4g}", f"{max(numbers):.4g}"
    return least if least == most else f"{least} to {most}"


def _table(modules: Modules) -> list[str]:
    columns = [key for key in ("rank", "scale", "norm", "effective_rank") if key in modules[0]]
    by = "norm" if "norm" in columns else "rank"
    return [
        f"| module | {' | '.join(columns).replace('_', ' ')} |",
        f"| --- |{' ---: |' * len(columns)}",
        *(
            f"| {code(each['module'])} | {' | '.join(f'{each[key]:.4g}' for key in columns)} |"
            for each in sorted(modules, key=lambda each: -each[by])
        ),
    ]
