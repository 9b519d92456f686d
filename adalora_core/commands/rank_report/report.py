"""Report the ranks of an adapter with a heat map, or write them as settings for plain LoRA."""

from __future__ import annotations

import contextlib
import json
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
Modules = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class RankReport:
    """A report in Markdown; `ranks` are those of its heat map."""

    name: str
    lines: Sequence[str]
    ranks: Mapping[str, int]
    init_r: int

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
        shown = ""
        with contextlib.suppress(ModuleNotFoundError):
            title = f"Rank of each matrix: {self.name}"
            picture = rank_heatmap(self.ranks, init_r=self.init_r, title=title)
            files[folder / HEAT_MAP_NAME] = picture
            shown = f"![rank of each matrix]({HEAT_MAP_NAME})"
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


def measure(folder: Path, values: Mapping[str, Any]) -> Modules:
    """Return rank and scale of each module of a LoRA, and whether it moved.

    Raises:
        OSError: the weights cannot be read.
        ValueError: the tensors are not those of the configuration.
    """
    saved = SavedLora(folder, values)
    still = saved.require_sound()
    return [
        {"module": path, "rank": each.rank, "scale": each.scale, "moved": path not in still}
        for path, each in saved.scales().items()
    ]


def lora_report(modules: Modules, *, name: str) -> RankReport:
    """Return the report on what `measure` returned."""
    ranks = {each["module"]: each["rank"] for each in modules}
    return RankReport(name, [*_summary(modules), "", *_table(modules)], ranks, max(ranks.values()))


def _summary(modules: Modules) -> list[str]:
    ranks, scales = ([each[key] for each in modules] for key in ("rank", "scale"))
    still, count = sum(not each["moved"] for each in modules), len(modules)
    moved = f"{still} of {count} modules did not move, so "
    moved += "it changes nothing." if still == 1 else "they change nothing."
    if still in {0, count}:
        nothing = "No module moved: the adapter changes nothing."
        moved = nothing if still else f"All {count} modules moved."
    mean = fmean(ranks)
    return [
        f"{count} modules of rank {_span(ranks)}, mean {mean:.2f}; scale {_span(scales)}.",
        moved,
    ]


def _span(numbers: Sequence[float]) -> str:
    least, most = f"{min(numbers):.4g}", f"{max(numbers):.4g}"
    return least if least == most else f"{least} to {most}"


def _table(modules: Modules) -> list[str]:
    return [
        "| module | rank | scale |",
        "| --- | ---: | ---: |",
        *(
            f"| {code(each['module'])} | {each['rank']} | {each['scale']:.4g} |"
            for each in sorted(modules, key=lambda each: -each["rank"])
        ),
    ]


def lora_settings(ranks: Mapping[str, int], scale: float) -> dict[str, Any]:
    r"""Return arguments of PEFT's `LoraConfig` that give every module its rank and the scale.

    A module at rank 0 is not a target: PEFT refuses a rank of 0. PEFT's scale is alpha / rank, so
    every module has an alpha of its own.

    Raises:
        ValueError: no triplet is left.

    Example:
        >>> settings = lora_settings({"0.q": 2, "0.v": 0}, 2.0)
        >>> settings["target_modules"], settings["rank_pattern"], settings["alpha_pattern"]
        (['0.q'], {'^0\\.q': 2}, {'^0\\.q': 4})
    """
    if not any(ranks.values()):
        raise ValueError("rank_pattern: no triplet is left in any module")
    return settings_of_ranks(ranks, lambda rank: scale * rank)


def render_rank_pattern(ranks: Mapping[str, int], scale: float, form: PatternFormat) -> str:
    """Return the ranks as text in one of `FORMATS`.

    "peft" is JSON with arguments of `LoraConfig`, "axolotl" YAML, and "json" the rank of every
    module, 0 included.

    Raises:
        ValueError: no triplet is left.
    """
    if form == "json":
        return json.dumps(ranks, indent=2, sort_keys=True)
    settings = lora_settings(ranks, scale)
    return json.dumps(settings, indent=2) if form == "peft" else _axolotl(settings)


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
