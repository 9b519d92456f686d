"""Report the ranks of an adapter with a heat map, or write them as settings for plain LoRA.

Of a saved LoRA the report shows how much of its ranks the training has used.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal, get_args

import yaml

from adalora_core.checker.plan.adapter_tensors import SavedLora
from adalora_core.commands.rank_report.heatmap import rank_heatmap
from adalora_core.floor.adapter_spec import AdapterSpec
from adalora_core.floor.errors import CheckpointError, MissingExtraError
from adalora_core.floor.escaping import visible
from adalora_core.floor.files import write_files
from adalora_core.floor.module_selection import settings_of_ranks
from adalora_core.floor.rank_pattern import module_path

if TYPE_CHECKING:
    from pathlib import Path

    from adalora_core.config.model import AdaLoraConfig

PatternFormat = Literal["peft", "axolotl", "json"]
FORMATS: tuple[PatternFormat, ...] = get_args(PatternFormat)

HEAT_MAP_NAME = "rank_heatmap.png"
REPORT_NAME = "rank_report.md"
ENERGY = 0.9
"""The part of a module's squared singular values that its effective rank holds."""

Modules = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class RankReport:
    """A report in Markdown; `ranks` are those of its heat map, which shows `what`."""

    name: str
    lines: Sequence[str]
    ranks: Mapping[str, int]
    init_r: int
    what: str = "Rank"

    def text(self, picture: str = "") -> str:
        """Return the report, with a line that shows a picture if there is one."""
        head = [f"# Ranks of {literal(self.name)}", "", *[picture, ""] * bool(picture)]
        return "\n".join([*head, *self.lines, ""])

    def write(self, folder: Path) -> list[Path]:
        """Write the report, and the heat map if there is matplotlib, and return their paths.

        Raises:
            OSError: a file cannot be written.
        """
        folder.mkdir(parents=True, exist_ok=True)
        files: dict[Path, bytes] = {}
        what, shown = f"{self.what} of each matrix", ""
        with contextlib.suppress(ModuleNotFoundError):
            picture = rank_heatmap(self.ranks, init_r=self.init_r, title=f"{what}: {self.name}")
            files[folder / HEAT_MAP_NAME] = picture
            shown = f"![{what.lower()}]({HEAT_MAP_NAME})"
        files[folder / REPORT_NAME] = self.text(shown).encode()
        write_files(files)
        return list(files)


def rank_report(config: AdaLoraConfig, *, name: str) -> RankReport:
    """Return the report on an adapter.

    Raises:
        ValueError: the configuration has no rank pattern.
    """
    ranks = ranks_of(config)
    if progress := progress_of(config, ranks):
        name = f"{name} ({progress})"
    return RankReport(name, _lines(config, ranks), ranks, config.init_r)


def progress_of(config: AdaLoraConfig, ranks: Mapping[str, int]) -> str:
    """Return `an unfinished run, 10 of 12 triplets, target 8` for such a run, else nothing."""
    kept, target = sum(ranks.values()), config.target_r * len(ranks)
    triplets = f"{kept} of {config.init_r * len(ranks)} triplets, target {target}"
    return f"an unfinished run, {triplets}" if kept > target else ""


def ranks_of(config: AdaLoraConfig) -> dict[str, int]:
    """Return `{module path: kept triplets}` of a rank pattern; a ValueError without one."""
    if not config.rank_pattern:
        raise ValueError(
            "rank_pattern is null: there was no allocation, so every matrix has rank "
            f"{config.init_r}; call model.update_and_allocate(step) in training"
        )
    return {module_path(key): sum(kept) for key, kept in config.rank_pattern.items()}


def _lines(config: AdaLoraConfig, ranks: Mapping[str, int]) -> list[str]:
    """Return budget, schedule and matrices by rank as Markdown."""
    kept, start = sum(ranks.values()), config.init_r * len(ranks)
    target, schedule_lines = config.target_r * len(ranks), []
    if isinstance(config.total_step, int):
        schedule = AdapterSpec.of(config).schedule()
        schedule_lines = [
            (
                f"Warm-up to step {schedule.tinit}, budgeting to step {schedule.final_start - 1} "
                f"with {schedule.allocation_count()} allocations, final phase to step "
                f"{schedule.total_step - 1}."
            ),
            "",
        ]
    return [
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
        *schedule_lines,
        "| matrix | rank |",
        "| --- | ---: |",
        *(
            f"| {code(path)} | {rank} |"
            for path, rank in sorted(ranks.items(), key=lambda item: -item[1])
        ),
    ]


def literal(text: str) -> str:
    """Return `text` as Markdown that shows it, where it has a character with another meaning."""
    return text if re.fullmatch(r"(?!.*www\.)[\w ,.()-]+", text) else code(text)


def code(text: str) -> str:
    """Return `text` as code in Markdown: nothing of it is HTML, a link or the end of a cell."""
    shown = visible(text).replace("`", r"\x60").replace("|", r"\x7c")
    return f"`{shown}`"


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


def lora_settings(config: AdaLoraConfig) -> dict[str, Any]:
    r"""Return arguments of PEFT's `LoraConfig` that give every module the rank that was found.

    A module at rank 0 is not a target: PEFT refuses a rank of 0. The scale of every module is that
    of the AdaLoRA run, `lora_alpha / init_r`, so alpha is that times the rank.

    Raises:
        ValueError: no allocation has happened, or no triplet is left.

    Example:
        >>> from adalora_core import AdaLoraConfig
        >>> pattern = {"0.q.lora_E": [True, True, False], "0.v.lora_E": [False] * 3}
        >>> config = AdaLoraConfig(
        ...     init_r=3, target_r=1, lora_alpha=6, total_step=9, rank_pattern=pattern
        ... )
        >>> settings = lora_settings(config)
        >>> settings["target_modules"], settings["rank_pattern"], settings["alpha_pattern"]
        (['0.q'], {'^0\\.q': 2}, {'^0\\.q': 4})
    """
    ranks = ranks_of(config)
    if not any(ranks.values()):
        raise ValueError("rank_pattern: no triplet is left in any module")
    return settings_of_ranks(ranks, lambda rank: config.lora_alpha * rank / config.init_r)


def render_rank_pattern(config: AdaLoraConfig, form: PatternFormat) -> str:
    """Return the ranks as text in one of `FORMATS`.

    "peft" is JSON with arguments of `LoraConfig`, "axolotl" YAML, and "json" the rank of every
    module, 0 included.

    Raises:
        ValueError: no allocation has happened, or no triplet is left.
    """
    if form == "json":
        return json.dumps(ranks_of(config), indent=2, sort_keys=True)
    settings = lora_settings(config)
    if form == "peft":
        return json.dumps(settings, indent=2)
    return _axolotl(settings)


def _axolotl(settings: Mapping[str, Any]) -> str:
    """Return `settings` as YAML for axolotl, which takes whole alphas from 1 alone."""
    values: dict[str, Any] = {"adapter": "lora"}
    values |= {f"lora_{name.removeprefix('lora_')}": value for name, value in settings.items()}
    alphas, ranks = settings["alpha_pattern"], settings["rank_pattern"]
    whole = {key: max(1, round(alpha)) for key, alpha in alphas.items()}
    values |= {"lora_alpha": max(1, round(settings["lora_alpha"])), "lora_alpha_pattern": whole}
    text = yaml.dump(values, Dumper=_Writer, sort_keys=False, width=sys.maxsize).rstrip()
    scales = [alpha / ranks[key] for key, alpha in whole.items() if alpha != alphas[key]]
    if not scales:
        return text
    wanted = settings["lora_alpha"] / settings["r"]
    found = f"{min(scales):.4g} to {max(scales):.4g} in {len(scales)} of {len(whole)} modules"
    return (
        f"# axolotl takes whole alphas. The scale of the run is {wanted:.4g} in every module;\n"
        f"# here it is {found}.\n{text}"
    )


class _Writer(yaml.SafeDumper):
    """Writes text on one line: in double quotes, unless no value of another type looks like it."""


_PLAIN = re.compile(
    r"(?!(?:y|n|yes|no|on|off|true|false|null)\Z)(?:\^[\w\\]|[a-z_])[\w\\.-]*",
    re.ASCII | re.IGNORECASE,
)
_Writer.add_representer(
    str,
    lambda writer, text: writer.represent_scalar(
        "tag:yaml.org,2002:str", text, None if _PLAIN.fullmatch(text) else '"'
    ),
)
