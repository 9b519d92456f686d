"""Run `adalora report`: write the ranks of a saved adapter as files, or as a `rank_pattern`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from adalora_core.commands.cli.arguments import Parser, add, text
from adalora_core.commands.cli.output import FINE, fail
from adalora_core.floor.escaping import visible


def make_parser() -> Parser:
    """Return the parser of `adalora report`."""
    from adalora_core.commands.rank_report.report import FORMATS

    parser = Parser(
        prog="adalora report",
        description="Write rank_report.md and, with matplotlib, rank_heatmap.png for a saved "
        "adapter. Only adapter_config.json and the step of an unfinished run are read.",
        epilog="exit code: 0 written, 2 could not run; a line names an unfinished run",
    )
    ranks = (
        "print the ranks as settings for a fresh run with plain LoRA instead of writing files: "
        "peft (arguments of LoraConfig as JSON), axolotl (YAML), or json (the rank of every module)"
    )
    adapter = text("ADAPTER_DIR", "folder of the adapter")
    output = text("DIR", "folder for the files (default: ADAPTER_DIR)")
    pattern = {"choices": FORMATS, **text("FORMAT", ranks)}
    add(parser, {"adapter": adapter, "--output": output, "--rank-pattern": pattern})
    return parser


def run(argv: Sequence[str]) -> int:
    """Run `adalora report ADAPTER_DIR [options]` and return the exit code."""
    parser = make_parser()
    arguments = parser.parse_args(argv)
    if arguments.rank_pattern and arguments.output:
        parser.error("--output has no effect with --rank-pattern, which prints")
    folder = Path(arguments.adapter)

    from adalora_core.commands.rank_report.report import (
        progress_of,
        ranks_of,
        render_rank_pattern,
        steps_made,
        write_rank_report,
    )
    from adalora_core.config.loading import read_config
    from adalora_core.floor.errors import AdaLoraError, MissingExtraError

    try:
        config = read_config(folder / "adapter_config.json")
        steps = steps_made(folder)
        if arguments.rank_pattern:
            print(render_rank_pattern(config, arguments.rank_pattern))
            written = []
        else:
            out = Path(arguments.output or folder)
            written = write_rank_report(config, out, name=folder.name, steps=steps)
        unfinished = progress_of(config, ranks_of(config), steps)
    except (AdaLoraError, OSError, ValueError) as error:
        return fail("report", error)
    if unfinished:
        print(f"adalora report: these ranks are not final: {unfinished}", file=sys.stderr)
    for path in written:
        print(f"wrote {visible(str(path))}")
    if len(written) == 1:
        missing = MissingExtraError("matplotlib", "plot", "the picture of the ranks")
        print(f"adalora report: left rank_heatmap.png out: {missing}", file=sys.stderr)
    return FINE
