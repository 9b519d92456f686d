"""Write the rank pattern of an adapter as a Markdown report with a heat map."""

from __future__ import annotations

import contextlib
import json
import os
import re
from typing import TYPE_CHECKING

from adalora_core.commands.rank_report.heatmap import rank_heatmap
from adalora_core.floor.adapter_spec import AdapterSpec
from adalora_core.floor.escaping import visible
from adalora_core.floor.files import write_files
from adalora_core.floor.rank_pattern import active_rank, module_path
from adalora_core.floor.regular_files import open_regular_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from adalora_core.config.model import AdaLoraConfig

HEAT_MAP_NAME = "rank_heatmap.png"
REPORT_NAME = "rank_report.md"
_STATES = "adalora_state.*.safetensors"
_LONGEST_HEADER = 32 << 20


def write_rank_report(
    config: AdaLoraConfig, folder: Path, *, name: str, steps: int | None = None
) -> list[Path]:
    """Write the heat map and the report of an adapter into `folder` and return their paths.

    Without matplotlib the report alone is written.

    Args:
        config: the adapter's configuration.
        folder: created if missing; files of an earlier report are replaced.
        name: name of the adapter, for titles.
        steps: steps that an unfinished run has made; None for a finished one.

    Raises:
        ValueError: the configuration has no rank pattern.
        OSError: a file cannot be written.
    """
    ranks = ranks_of(config)
    if progress := progress_of(config, ranks, steps):
        name = f"{name} ({progress})"
    folder.mkdir(parents=True, exist_ok=True)
    files: dict[Path, bytes] = {}
    with contextlib.suppress(ModuleNotFoundError):
        files[folder / HEAT_MAP_NAME] = rank_heatmap(
            ranks, init_r=config.init_r, title=f"Rank of each matrix: {name}"
        )
    text = render_rank_report(config, ranks, name=name, with_map=bool(files))
    files[folder / REPORT_NAME] = text.encode()
    write_files(files)
    return list(files)


def progress_of(config: AdaLoraConfig, ranks: Mapping[str, int], steps: int | None) -> str:
    """Return `step 36 of 400, 10 of 12 triplets, target 8` for an unfinished run, else nothing.

    Args:
        config: the adapter's configuration.
        ranks: triplets kept per adapted module.
        steps: steps that the run has made; None where that is not known, or for a finished run.
    """
    kept, target = sum(ranks.values()), config.target_r * len(ranks)
    triplets = f"{kept} of {config.init_r * len(ranks)} triplets, target {target}"
    if steps is not None:
        return f"step {steps} of {config.total_step}, {triplets}"
    return f"an unfinished run, {triplets}" if kept > target else ""


def steps_made(folder: Path) -> int | None:
    """Return how many steps an unfinished run in `folder` has made; None without a training state.

    Only the header of the state is read, and only for the title of a report, so a state that cannot
    be read counts as none. After an interrupted save there may be two: the first one counts.
    """
    for path in sorted(folder.glob(_STATES)):
        try:
            with os.fdopen(open_regular_file(path), "rb") as file:
                length = int.from_bytes(file.read(8), "little")
                header = json.loads(file.read(min(length, _LONGEST_HEADER)))
            step = json.loads(header["__metadata__"]["adalora_state"])["step"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue
        if isinstance(step, int):
            return step + 1
    return None


def ranks_of(config: AdaLoraConfig) -> dict[str, int]:
    """Return `{module path: kept triplets}` of a configuration's rank pattern.

    Raises:
        ValueError: there is no rank pattern, since no allocation has happened.
    """
    if not config.rank_pattern:
        raise ValueError(
            "rank_pattern is null: there was no allocation, so every matrix has rank "
            f"{config.init_r}; call model.update_and_allocate(step) in training"
        )
    return {module_path(key): active_rank(kept) for key, kept in config.rank_pattern.items()}


def render_rank_report(
    config: AdaLoraConfig, ranks: Mapping[str, int], *, name: str, with_map: bool
) -> str:
    """Return the report as Markdown: the map if wanted, budget, schedule, matrices by rank."""
    kept, start = sum(ranks.values()), config.init_r * len(ranks)
    target = config.target_r * len(ranks)
    lines = [
        f"# Ranks of {_literal(name)}",
        "",
        *([f"![rank of each matrix]({HEAT_MAP_NAME})", ""] if with_map else []),
        "| budget | triplets | per matrix |",
        "| --- | ---: | ---: |",
        f"| at the start | {start} | {config.init_r} |",
        f"| target | {target} | {config.target_r} |",
        f"| kept | {kept} | {kept / len(ranks):.2f} |",
        "",
        (
            f"{sum(rank == 0 for rank in ranks.values())} of {len(ranks)} matrices are left "
            f"without any triplet; ranks run from {min(ranks.values())} to {max(ranks.values())}."
        ),
        "",
        *_schedule_lines(config),
        "| matrix | rank |",
        "| --- | ---: |",
        *(
            f"| {_code(path)} | {rank} |"
            for path, rank in sorted(ranks.items(), key=lambda item: -item[1])
        ),
        "",
    ]
    return "\n".join(lines)


def _literal(text: str) -> str:
    """Return `text` as Markdown that shows it, where it has a character with another meaning."""
    return text if re.fullmatch(r"(?!.*www\.)[\w ,.()-]+", text) else _code(text)


def _code(text: str) -> str:
    """Return `text` as code in Markdown: nothing of it is HTML, a link or the end of a cell."""
    shown = visible(text).replace("`", r"\x60").replace("|", r"\x7c")
    return f"`{shown}`"


def _schedule_lines(config: AdaLoraConfig) -> list[str]:
    if not isinstance(config.total_step, int):
        return []
    schedule = AdapterSpec.of(config).schedule()
    return [
        (
            f"Warm-up to step {schedule.tinit}, budgeting to step {schedule.final_start - 1} with "
            f"{schedule.allocation_count()} allocations, final phase to step "
            f"{schedule.total_step - 1}."
        ),
        "",
    ]
