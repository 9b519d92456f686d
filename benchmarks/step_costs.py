"""Compare the times of whole training steps and write the figures."""

from __future__ import annotations

import json
import platform
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path

import peft
import torch

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Comparison:
    """The cost of one step in comparison with another of the same round.

    Attributes:
        label: the model and the batch.
        of: the contender that is compared.
        against: the contender that it is compared with.
        milliseconds: medians of both.
        ratio: ratio of the medians.
        quartiles: quartiles of the ratios of single rounds.
        at_most: the goal for the ratio.
    """

    label: str
    of: str
    against: str
    milliseconds: dict[str, float]
    ratio: float
    quartiles: tuple[float, float]
    at_most: float

    @property
    def reached(self) -> bool:
        """Whether the goal was reached."""
        return self.ratio <= self.at_most


def compare(
    label: str, seconds: dict[str, list[float]], of: str, against: str, at_most: float
) -> Comparison:
    """Return the comparison of two contenders, whose `seconds` are in the order of the rounds."""
    medians = {name: 1e3 * statistics.median(seconds[name]) for name in (of, against)}
    ratios = [one / other for one, other in zip(seconds[of], seconds[against], strict=True)]
    low, _, high = statistics.quantiles(ratios, n=4)
    ratio = medians[of] / medians[against]
    return Comparison(label, of, against, medians, ratio, (low, high), at_most)


def write(name: str, title: str, comparisons: list[Comparison], folder: Path) -> str:
    """Write `name`.json and `name`.md into `folder` and return the page."""
    setting = {
        "processor": platform.machine(),
        "torch": torch.__version__,
        "peft": peft.__version__,
        "threads per process": torch.get_num_threads(),
    }
    lines = [
        title,
        "",
        "All contenders of a row run in the same processes, in turn; times are medians of a step,",
        "the ratio is that of the medians, with the quartiles of single rounds in brackets.",
        "",
        "; ".join(f"{key}: {value}" for key, value in setting.items()) + ".",
        "",
        "| batch | ratio of | ratio | goal | | medians |",
        "|---|---|---|---|---|---|",
    ]
    for each in comparisons:
        times = ", ".join(f"{who} {value:.1f} ms" for who, value in each.milliseconds.items())
        low, high = each.quartiles
        lines.append(
            f"| {each.label} | {each.of} / {each.against} | {each.ratio:.3f} ({low:.3f} to "
            f"{high:.3f}) | <= {each.at_most:g} | {'reached' if each.reached else 'missed'} "
            f"| {times} |"
        )
    page = "\n".join([*lines, ""])
    figures = {"setting": setting, "comparisons": [asdict(each) for each in comparisons]}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    (folder / f"{name}.md").write_text(page, encoding="utf-8")
    return page
