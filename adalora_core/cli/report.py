"""Run `adalora report`: write the ranks of a saved adapter as a table and a heat map."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from adalora_core.cli.arguments import Parser
from adalora_core.cli.exit_codes import FINE
from adalora_core.cli.failing import fail
from adalora_core.contract.reports.escaping import visible

if TYPE_CHECKING:
    from collections.abc import Sequence


def run(argv: Sequence[str]) -> int:
    """Run `adalora report ADAPTER_DIR [--output DIR]` and return the exit code."""
    parser = Parser(
        prog="adalora report",
        description="Write rank_heatmap.png and rank_report.md for a saved adapter. Only "
        "adapter_config.json and the step of an unfinished run are read.",
    )
    parser.add_argument("adapter", metavar="ADAPTER_DIR", help="folder of the adapter")
    parser.add_argument(
        "--output", metavar="DIR", help="folder for the files (default: ADAPTER_DIR)"
    )
    arguments = parser.parse_args(argv)
    folder = Path(arguments.adapter)

    from adalora_core.contract.check import read_adapter_config
    from adalora_core.errors import AdaLoraError
    from adalora_core.rank_report import write_rank_report
    from adalora_core.rank_report.progress import steps_made

    try:
        written = write_rank_report(
            read_adapter_config(folder / "adapter_config.json"),
            Path(arguments.output or folder),
            name=folder.name,
            steps=steps_made(folder),
        )
    except (AdaLoraError, OSError, ValueError) as error:
        return fail("report", error)
    for path in written:
        print(f"wrote {visible(str(path))}")
    return FINE
