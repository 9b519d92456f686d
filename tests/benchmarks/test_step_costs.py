"""The benchmarks of whole steps run and write their figures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from programs import output_of_python

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options", "contenders"),
    [
        ("ddp", ["--rounds", "3", "--batch", "2x4"], [("ours", "plain LoRA", 1.02)]),
        ("bridge", ["--steps", "6"], [("attached", "ours", 1.05), ("attached", "PEFT", 1.0)]),
    ],
)
def test_figures_and_page_are_written(
    name: str, options: list[str], contenders: list[tuple[str, str, float]], tmp_path: Path
) -> None:
    script = BENCHMARKS / f"bench_{name}.py"
    output_of_python(script, *options, "--output", tmp_path, timeout=1200)
    figures = json.loads((tmp_path / f"{name}.json").read_text())["comparisons"]
    assert [(each["of"], each["against"], each["at_most"]) for each in figures] == contenders
    page = (tmp_path / f"{name}.md").read_text()
    for each in figures:
        times = each["milliseconds"]
        assert each["ratio"] == pytest.approx(times[each["of"]] / times[each["against"]])
        assert each["quartiles"][0] <= each["quartiles"][1]
        assert f"{each['of']} / {each['against']} | {each['ratio']:.3f}" in page
        verdict = "reached" if each["ratio"] <= each["at_most"] else "missed"
        assert f"| <= {each['at_most']:g} | {verdict} |" in page
