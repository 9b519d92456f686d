"""Convert between a run and what its training state holds: JSON values, and tensors."""

from __future__ import annotations

import hashlib
import json
import reprlib
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch

from adalora_core.allocation import AllocationReport, RankAllocator
from adalora_core.allocation.statistics import average_dtype
from adalora_core.floor import adapter_spec
from adalora_core.floor.adapter_spec import CRITERIA, SENSITIVITY, AdapterSpec, criterion_name
from adalora_core.floor.budget import Phase
from adalora_core.floor.errors import CheckpointError
from adalora_core.floor.escaping import visible
from adalora_core.floor.rank_pattern import RankPattern
from adalora_core.nn.adapter_layer import FACTORS, TRIPLET_AXES
from adalora_core.sharding import divided_like, local_part, whole
from adalora_core.training.adapter import Adapter
from adalora_core.training.compaction import keep_rows

CRITERION = "importance_criterion"
"""The entry of the progress that names the criterion, if it is not the default."""

AUTOMATIC = "automatic"
"""The entry of the progress of a run that nobody but this package has allocated."""

PROGRESS = ("run", "step", "target_reached", "skipped_entries", "positions", "history")

_PHASES = [phase.value for phase in Phase]


def allocator_of(adapter: Adapter) -> RankAllocator:
    """Return the allocator of an adapter that is being trained; a ValueError if it is frozen."""
    if adapter.allocator is None:
        raise ValueError(
            f"training state: the adapter {adapter.name!r} is frozen and has no allocator; load "
            "it with is_trainable=True"
        )
    return adapter.allocator


def progress(adapter: Adapter) -> dict[str, Any]:
    """Return the progress of a run, without averages and factors, as JSON values.

    `mask` and `ranks` have an entry per module: which rows are kept, and how many were kept after
    each allocation. Both are empty before the first allocation.
    """
    allocator = allocator_of(adapter)
    has_allocated = allocator.mask is not None
    criterion = criterion_name(adapter.spec.importance_criterion)
    automatic = adapter.run.automatic
    return {
        "run": fingerprint(adapter.spec, adapter.layers),
        "step": allocator.last_step,
        "target_reached": allocator.target_reached,
        "skipped_entries": allocator.statistics.skipped_entries,
        "positions": adapter.positions,
        "history": [
            [each.step, each.phase.value, each.budget, each.allocated, each.skipped_entries]
            for each in allocator.history
        ],
        "mask": allocator.kept() if has_allocated else {},
        "ranks": allocator.rank_history() if has_allocated else {},
        # Left out of the usual state, which releases without criteria can read.
        **({} if criterion == SENSITIVITY else {CRITERION: criterion}),
        **({AUTOMATIC: True} if automatic.is_active else {}),
    }


def restore_progress(allocator: RankAllocator, values: dict[str, Any]) -> None:
    """Restore `allocator` from the result of `progress`."""
    allocator.last_step = values["step"]
    allocator.target_reached = values["target_reached"]
    allocator.statistics.skipped_entries = values["skipped_entries"]
    allocator.history = [
        AllocationReport(step, Phase(phase), budget, allocated, skipped)
        for step, phase, budget, allocated, skipped in values["history"]
    ]
    paths = [matrix.path for matrix in allocator.matrices]
    device = local_part(allocator.parameters()[0]).device
    flags = [flag for path in paths for flag in values["mask"].get(path, ())]
    mask = torch.tensor(flags, dtype=torch.bool, device=device)
    allocator.mask = mask if values["mask"] else None
    columns = [values["ranks"].get(path, ()) for path in paths]
    table = torch.tensor(columns, dtype=torch.int16, device=device)
    allocator.ranks_over_time.restore(table.T)


def fingerprint(spec: AdapterSpec, paths: Iterable[str]) -> str:
    """Return a hash of what must not change during a run: its numbers and its modules."""
    described = spec.numbers() | {"modules": sorted(paths)}
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def saved_criterion(values: Mapping[str, Any]) -> str:
    """Return the name of the criterion of a saved run."""
    return str(values.get(CRITERION, SENSITIVITY))


def refuse_other_criterion(values: Mapping[str, Any], adapter: str, config: Any) -> None:
    """Refuse to continue the run of `values`, its progress, with scores of another kind.

    A function is compared by its name. Where the name is not of one function alone, warn.
    """
    saved = saved_criterion(values)
    given = criterion_name(AdapterSpec.of(config).importance_criterion)
    if saved != given:
        wanted = "the same function" if saved not in CRITERIA else repr(saved)
        raise CheckpointError(
            f"training state: the run was saved with the importance_criterion {saved!r}, and the "
            f"adapter {adapter!r} has {given!r}, whose scores do not continue it; pass a config "
            f"that has {wanted} as importance_criterion (AdaLoraConfig.from_pretrained reads the "
            "saved one), or delete the training state to start a new allocation. Nothing was "
            "changed"
        )
    if not adapter_spec.names_one_function(given):
        warnings.warn(
            f"training state: the importance_criterion of the adapter {adapter!r} is {given!r}, a "
            "name that many functions have, so the run may go on with another score than it was "
            "saved with; compare the function, or give it a name at the top of a module",
            stacklevel=3,
        )


def check_fields(values: Any, expected: Collection[str]) -> None:
    """Raise a ValueError that names other fields than `expected`, or those that are missing."""
    require(isinstance(values, dict), "the JSON text", "a mapping", values)
    if missing := sorted(set(expected) - set(values)):
        raise ValueError(f"the fields {missing} are missing")
    if unknown := sorted(set(values) - set(expected)):
        raise ValueError(f"the fields {unknown} are unknown")


def check_progress(values: Mapping[str, Any], spec: AdapterSpec, paths: Collection[str]) -> None:
    """Raise a ValueError unless `values` can be the `progress` of a run of `spec` and `paths`."""
    _check_positions(values["positions"], spec.init_r, paths)
    if values["run"] != fingerprint(spec, paths):
        raise ValueError(
            "the configuration is not the one of the saved run, so the schedule would jump; "
            "restore adapter_config.json"
        )
    step, is_final = values["step"], values["target_reached"]
    require(step is None or _is_count(step), "step", "null or a whole number from 0", step)
    require(isinstance(is_final, bool), "target_reached", "true or false", is_final)
    schedule = spec.schedule()
    last = schedule.final_start - 1
    require(is_final or (step or 0) <= last, "step", f"{last} at most before the target", step)
    skipped = values["skipped_entries"]
    require(_is_count(skipped), "skipped_entries", "a whole number from 0", skipped)
    _check_history(values, schedule.initial_budget * len(paths))
    _check_ranks(values, spec.init_r)


def _check_positions(positions: Any, init_r: int, paths: Collection[str]) -> None:
    require(isinstance(positions, dict), "positions", "a mapping", positions)
    require(
        set(positions) == set(paths), "positions", f"the modules {sorted(paths)}", sorted(positions)
    )
    for path, places in positions.items():
        name, what = f"positions of {path}", f"ascending whole numbers from 0 to {init_r - 1}"
        require(isinstance(places, list) and all(map(_is_count, places)), name, what, places)
        require(all(one < other for one, other in pairwise([*places, init_r])), name, what, places)


def _check_history(values: Mapping[str, Any], most: int) -> None:
    history, last = values["history"], values["step"] or 0
    require(isinstance(history, list), "history", "a list", history)
    require(bool(history) or not values["target_reached"], "history", "an allocation", history)
    before = (0, 0)
    for index, entry in enumerate(history):
        name = f"history[{index}]"
        what = "[step, phase, budget, allocated, skipped entries]"
        require(isinstance(entry, list) and len(entry) == 5, name, what, entry)  # noqa: PLR2004 - these
        step, phase, budget, allocated, skipped = entry
        is_due = _is_count(step) and before[0] <= step <= last
        require(is_due, f"{name}: step", f"a whole number from {before[0]} to {last}", step)
        allowed = _PHASES[before[1] :]
        require(phase in allowed, f"{name}: phase", f"one of {allowed}", phase)
        is_possible = _is_count(budget) and budget <= most
        require(is_possible, f"{name}: budget", f"a whole number from 0 to {most}", budget)
        require(allocated is True, f"{name}: allocated", "true", allocated)
        require(_is_count(skipped), f"{name}: skipped entries", "a whole number from 0", skipped)
        before = step, _PHASES.index(phase)


def _check_ranks(values: Mapping[str, Any], init_r: int) -> None:
    history, positions = values["history"], values["positions"]
    for name in ("mask", "ranks"):
        found, wanted = values[name], sorted(positions if history else ())
        require(isinstance(found, dict), name, "a mapping", found)
        require(sorted(found) == wanted, name, f"the modules {wanted}", sorted(found))
    for path, flags in values["mask"].items():
        rows, ranks = positions[path], values["ranks"][path]
        what = f"true or false for each of {len(rows)} positions"
        is_flags = isinstance(flags, list) and all(isinstance(flag, bool) for flag in flags)
        require(is_flags and len(flags) == len(rows), f"mask of {path}", what, flags)
        what = f"{len(history)} whole numbers from 0 to {init_r}, the last of which is {sum(flags)}"
        are_ranks = isinstance(ranks, list) and len(ranks) == len(history)
        are_ranks = are_ranks and all(_is_count(rank) and rank <= init_r for rank in ranks)
        require(are_ranks and ranks[-1] == sum(flags), f"ranks of {path}", what, ranks)
    for index, entry in enumerate(history):
        kept = sum(ranks[index] for ranks in values["ranks"].values())
        require(kept <= entry[2], f"ranks[{index}]", f"at most {entry[2]} together", kept)


def require(condition: object, name: str, expected: str, found: Any) -> None:
    """Raise a ValueError that names the value, unless `condition` holds."""
    if not condition:
        raise ValueError(f"{visible(name)}: expected {expected}, got {reprlib.repr(found)}")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


AVERAGES = ("smoothed", "uncertainty")
DROPPED = "dropped."


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
            values = {each: whole(getattr(layer, each)[adapter.name].detach()) for each in FACTORS}
            factors = keep_rows(values, rows)
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
                dropped = take(tensors, f"{DROPPED}{path}.{factor}", part.dtype, shape)
                is_finite = bool(dropped.isfinite().all())
                require(is_finite, f"{DROPPED}{path}.{factor}", "finite numbers", "others")
                part = torch.cat([part, dropped], axis).index_select(axis, order).contiguous()
            factors[f"{path}.{factor}"] = part
    return factors


def averages_of(allocator: RankAllocator) -> dict[str, torch.Tensor]:
    """Return both averages of every factor, `{kind.path.factor: values}`; nothing without averages.

    With a sharded model every process has to call it.
    """
    found = {}
    names = factor_names(matrix.path for matrix in allocator.matrices)
    for kind in AVERAGES:
        averages = getattr(allocator.statistics, kind)  # there are none in the final phase
        for name, parameter, each in zip(names, allocator.parameters(), averages, strict=False):
            found[f"{kind}.{name}"] = whole(divided_like(parameter, each)).detach()
    return found


def take_averages(
    tensors: dict[str, torch.Tensor], factors: Mapping[str, torch.Tensor]
) -> dict[str, dict[str, torch.Tensor]]:
    """Take the averages of `factors` out of `tensors`: the inverse of `averages_of`.

    The result is `{kind: {path.factor: values}}`, empty inside without averages.
    """
    if not any(name.startswith(f"{kind}.") for kind in AVERAGES for name in tensors):
        return {kind: {} for kind in AVERAGES}
    return {
        kind: {name: _average(tensors, f"{kind}.{name}", each) for name, each in factors.items()}
        for kind in AVERAGES
    }


def _average(tensors: dict[str, torch.Tensor], name: str, factor: torch.Tensor) -> torch.Tensor:
    average = take(tensors, name, average_dtype(factor.dtype), factor.shape)
    bad = average[~(average.isfinite() & (average >= 0))]
    require(not len(bad), name, "finite numbers from 0", bad.tolist())
    return average


def take(
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
