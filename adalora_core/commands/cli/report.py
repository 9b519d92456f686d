"""Run `adalora report`: show the ranks of a saved adapter, or print them as a `rank_pattern`."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adalora_core.commands.cli.arguments import BOUND, Parser, add, choice, text
from adalora_core.commands.cli.output import FINE, fail, print_json, print_text
from adalora_core.commands.cli.shrink import foreign_file
from adalora_core.floor.errors import AdaLoraError, MissingExtraError
from adalora_core.floor.escaping import visible
from adalora_core.floor.files import object_in, refuse_links_out

if TYPE_CHECKING:
    from argparse import Namespace

    from adalora_core.commands.rank_report.report import RankReport


def make_parser() -> Parser:
    """Return the parser of `adalora report`."""
    from adalora_core.commands.rank_report.report import FORMATS

    parser = Parser(
        "Print the ranks of a saved AdaLoRA or LoRA adapter as a table; of LoRA, with torch, also "
        "the norm of each module's change and its effective rank.",
        {
            "adalora report adapter": "print a table",
            "adalora report adapter --output ranks": "write it, and a map",
        },
        prog="adalora report",
        epilog="exit code: 0 reported, 2 could not run; a line names an unfinished run",
    )
    ranks = (
        "print the ranks as settings for a fresh run with plain LoRA: "
        "peft (arguments of LoraConfig as JSON), axolotl (YAML), or json (the rank of every module)"
    )
    files = "write rank_report.md and, with matplotlib, rank_heatmap.png to this folder instead"
    output = text("DIR", files)
    add(
        parser,
        {"adapter": text("ADAPTER_DIR", "folder of the adapter"), "--output": output, **BOUND},
    )
    pattern = {"choices": FORMATS, **text("FORMAT", ranks)}
    form = choice(("text", "json"), "json: print what is known of each module", "")
    printed = {"--rank-pattern": pattern, "-o --output-format": form}
    add(parser.add_mutually_exclusive_group(), printed)
    return parser


def run(argv: Sequence[str]) -> int:
    """Run `adalora report ADAPTER_DIR [options]` and return the exit code."""
    parser = make_parser()
    arguments = parser.parse_args(argv)
    prints = arguments.rank_pattern or arguments.output_format == "json"
    if prints and arguments.output:
        parser.error("--output has no effect with --rank-pattern or -o json, which print")

    folder = Path(arguments.adapter)
    if why := foreign_file(arguments.adapter):
        return fail("report", why)
    try:
        refuse_links_out(folder)
        values = _of_lora(folder / "adapter_config.json")
        if values:
            _lora(folder, values, arguments)
        else:
            _adalora(folder, arguments)
    except (AdaLoraError, OSError, ValueError) as error:
        return fail("report", error)
    return FINE


def _show(report: RankReport, folder: str | None) -> None:
    """Print a report, or write it to a folder."""
    if folder is None:
        print_text(report.text())
        return
    written = report.write(Path(folder))
    for path in written:
        print(f"wrote {visible(str(path))}")
    if len(written) == 1:
        missing = MissingExtraError("matplotlib", "plot", "the picture of the ranks")
        print(f"adalora report: left rank_heatmap.png out: {missing}", file=sys.stderr)


def _of_lora(path: Path) -> dict[str, Any]:
    """Return the fields of a LoRA's configuration, none for any other file."""
    with contextlib.suppress(OSError, ValueError):  # what else reads the file speaks of these
        values = object_in(path)
        return values if values.get("peft_type") == "LORA" else {}
    return {}


def _adalora(folder: Path, arguments: Namespace) -> None:
    """Report on an AdaLoRA adapter."""
    from adalora_core.commands.rank_report import report
    from adalora_core.config.loading import read_config

    config = read_config(folder / "adapter_config.json")
    steps, ranks = report.steps_made(folder), report.ranks_of(config)
    if arguments.rank_pattern:
        print(report.render_rank_pattern(config, arguments.rank_pattern))
    elif arguments.output_format == "json":
        modules = [{"module": path, "rank": rank} for path, rank in ranks.items()]
        print_json(adapter=arguments.adapter, modules=modules)
    else:
        _show(report.rank_report(config, name=folder.name, steps=steps), arguments.output)
    if unfinished := report.progress_of(config, ranks, steps):
        print(f"adalora report: these ranks are not final: {unfinished}", file=sys.stderr)


def _lora(folder: Path, values: Mapping[str, Any], arguments: Namespace) -> None:
    """Report on a LoRA adapter."""
    from adalora_core.commands.rank_report.report import lora_report, measure

    if arguments.rank_pattern:
        raise ValueError(
            "--rank-pattern: the ranks of a LoRA adapter are settings already, in its "
            "adapter_config.json; -o json prints them"
        )
    modules, why = measure(folder, values)
    if arguments.output_format == "json":
        print_json(adapter=arguments.adapter, modules=modules)
    else:
        _show(lora_report(modules, name=folder.name, why=why), arguments.output)
    if why:
        print(f"adalora report: left norms out: {visible(why)}", file=sys.stderr)
