"""Write the tables of benchmarks/results/gpu.md from what `cuda_ptx 80 --count 1` counts.

    python tools/gpu_page.py build/ptx/cuda_ptx

docs/build.md says how the program is built.
"""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

PAGE = Path(__file__).parents[1] / "benchmarks" / "results" / "gpu.md"

SECTOR = 32
CLASSES = ("float32", "float64", "integer", "move", "memory", "control")
MOST_MOVED, LEAST_USED = 1.25, 0.9


class Gpu(NamedTuple):
    """What is published of a GPU, and how many instructions a processor of its issues at a time."""

    name: str
    bandwidth: float
    processors: int
    clock: float
    at_a_time: int = 4

    @property
    def issues(self) -> float:
        """Instructions of warps in a second."""
        return self.processors * self.clock * self.at_a_time


GPUS = (
    Gpu("T4", 300e9, 40, 1.59e9),
    Gpu("A100", 2039e9, 108, 1.41e9),
    Gpu("H100", 3350e9, 132, 1.98e9),
)
MODELS = {
    "MiniLM": "MiniLM: 36 matrices of rank 12, 0.5 million parameters in float32, 1,024 tokens",
    "7B": "7B: 224 matrices of rank 12, 30 million parameters in bfloat16, 2,048 tokens",
}

BEGIN, END = "<!-- written by python tools/gpu_page.py -->\n", "<!-- end -->\n"


def rows_of(counted: str) -> dict[tuple[str, str], dict[str, int]]:
    """Return the sums over the kernels of each op."""
    sums: dict[tuple[str, str], dict[str, int]] = {}
    for row in csv.DictReader(counted.splitlines(), delimiter="\t"):
        key = row.pop("model"), row.pop("op")
        del row["kernel"]
        needed = int(row.pop("needed"))
        of_op = sums.setdefault(key, dict.fromkeys(row, 0))
        for name, value in row.items():
            of_op[name] += int(value)
        of_op["needed"] = needed
    for row in sums.values():
        row["moved"] = SECTOR * (row["load_sectors"] + row["store_sectors"])
        row["asked"] = row["load_bytes"] + row["store_bytes"]
        row["instructions"] = sum(row[name] for name in CLASSES)
    return sums


def bold(text: str, is_bold: bool) -> str:
    """Return a text, bold where that is asked for."""
    return f"**{text}**" if is_bold else text


def table(titles: str, rows: list[list[str]]) -> str:
    """Return a table of Markdown."""
    lines = [titles.split(" | "), ["---"] * len(titles.split(" | ")), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def shares(row: dict[str, int]) -> list[str]:
    """Return what tells how well an op uses a GPU: what it moves, uses, runs and waits for."""
    moved, used = row["moved"] / row["needed"], row["asked"] / row["moved"]
    return [
        bold(f"{moved:.2f}", moved > MOST_MOVED),
        bold(f"{100 * used:.0f}", used < LEAST_USED),
        f"{1000 * row['instructions'] / row['needed']:.0f}",
        f"{row['conflicts'] / row['shared']:.1f}" if row["shared"] else "",
    ]


def counts_table(rows: dict[str, dict[str, int]]) -> str:
    """Return what was counted, a line for each op."""
    titles = (
        "op | launches | blocks | needed, kB | moved, times needed | used, % | instructions | "
        "parted | conflicts"
    )
    lines = []
    for op, row in rows.items():
        lines.append(
            [
                op,
                str(row["launches"]),
                f"{row['blocks']:,}",
                f"{row['needed'] / 1000:,.0f}",
                *shares(row)[:3],
                f"{1000 * row['divergent'] / row['instructions']:.1f}",
                shares(row)[3],
            ]
        )
    return table(titles, lines)


def times_table(rows: dict[str, dict[str, int]]) -> str:
    """Return the limits of time, a line for each op."""
    titles = "op | " + " | ".join(f"{each.name}: memory | instructions" for each in GPUS)
    lines = []
    for op, row in rows.items():
        line = [op]
        for gpu in GPUS:
            memory, issues = row["needed"] / gpu.bandwidth, row["instructions"] / gpu.issues
            line += [f"{1e6 * memory:.2f}", bold(f"{1e6 * issues:.2f}", issues > memory)]
        lines.append(line)
    return table(titles, lines)


def page_of(counted: str) -> str:
    """Return the page with other tables."""
    sums = rows_of(counted)
    text = BEGIN
    for model, title in MODELS.items():
        rows = {op: row for (of_model, op), row in sums.items() if of_model == model}
        text += f"\n### {title}\n\n{counts_table(rows)}\nLimits of time in microseconds:\n\n"
        text += times_table(rows)
    text += "\nThe GPUs:\n\n" + table(
        "GPU | bandwidth, GB/s | processors | clock, GHz",
        [
            [each.name, f"{each.bandwidth / 1e9:,.0f}", str(each.processors), str(each.clock / 1e9)]
            for each in GPUS
        ],
    )
    head, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    return head + text + END + rest.partition(END)[2]


if __name__ == "__main__":
    command = [sys.argv[1], "80", "--count", "1"]
    counted = subprocess.check_output(command, text=True)  # noqa: S603 - the program that is given
    PAGE.write_text(page_of(counted), encoding="utf-8")
