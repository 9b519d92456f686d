"""Run `adalora export-lora` and `adalora report` on the files of saved adapters."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adalora_core.checker.documents import tensors_in
from adalora_core.commands.cli.console import (
    BOUND,
    FINE,
    Parser,
    add,
    choice,
    flag,
    print_json,
    print_text,
    text,
)
from adalora_core.floor.errors import MissingExtraError
from adalora_core.floor.escaping import visible
from adalora_core.floor.files import object_in, read_start, refuse_links_out
from adalora_core.floor.limits import DEFAULT_LIMITS

if TYPE_CHECKING:
    from argparse import Namespace

    from adalora_core.commands.rank_report.report import RankReport

OUTPUT = {
    "out": text("OUT", "folder for the LoRA adapter"),
    "--pad-ranks": flag(
        "give every module the largest rank, with zeros, for loaders that take one rank and one "
        "alpha for all modules (TensorRT-LLM, llama.cpp)"
    ),
    "--overwrite": flag("replace the adapter that is in OUT"),
}
"""The arguments about what is written."""


def run_export(argv: Sequence[str]) -> int:
    """Run `adalora export-lora ADAPTER_DIR OUT ...` and return the exit code."""
    parser = Parser(
        "export-lora",
        "Write a saved AdaLoRA adapter as a LoRA adapter with the same outputs, without the base "
        "model.",
        {
            "adalora export-lora adapter lora": "a rank for each module",
            "adalora export-lora adapter lora --pad-ranks": "one rank for all",
        },
        {"adapter": text("ADAPTER_DIR", "folder of the AdaLoRA adapter"), **OUTPUT, **BOUND},
        epilog="exit code: 0 written, 2 could not run",
    )
    arguments = parser.parse_args(argv)
    try:
        from adalora_core.training.lora_export import export_folder
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "torch", "torch", "this command") from None
    out = Path(arguments.out)
    if (out / "adapter_config.json").exists() and not arguments.overwrite:
        other = "name another folder, or replace that one with --overwrite"
        raise ValueError(f"{out} holds an adapter; {other}")
    _refuse_tensors(arguments.adapter)
    export_folder(arguments.adapter, arguments.out, pad_ranks=arguments.pad_ranks)
    print(f"wrote a LoRA adapter to {visible(arguments.out)}")
    return FINE


def _refuse_tensors(adapter: str) -> None:
    """Raise ValueError if a file of tensors is named in place of a folder."""
    path = Path(adapter)
    found = path.is_file() and tensors_in(read_start(path, DEFAULT_LIMITS.file_bytes))
    if found:
        raise ValueError(f"{path}: {found.message}; {found.hint}")


def run_report(argv: Sequence[str]) -> int:
    """Run `adalora report ADAPTER_DIR [options]` and return the exit code."""
    from adalora_core.commands.rank_report.report import FORMATS

    files = "write rank_report.md and, with matplotlib, rank_heatmap.png to this folder instead"
    output = text("DIR", files)
    parser = Parser(
        "report",
        "Print the ranks of a saved AdaLoRA or LoRA adapter as a table, or those of finished "
        "AdaLoRA adapters, averaged, as settings for plain LoRA.",
        {
            "adalora report adapter": "print a table",
            "adalora report adapter --output ranks": "write it, and a map",
            "adalora report seed0 seed1 --rank-pattern peft": "mean ranks",
        },
        {
            "adapters": text("ADAPTER_DIR", "folder of the adapter; several with --rank-pattern")
            | {"nargs": "+"},
            "--output": output,
            **BOUND,
        },
        epilog="exit code: 0 reported, 2 could not run; a line names an unfinished run",
    )
    ranks = (
        "print the ranks as settings for a fresh run with plain LoRA: "
        "peft (arguments of LoraConfig as JSON), axolotl (YAML), or json (the rank of every module)"
    )
    pattern = {"choices": FORMATS, **text("FORMAT", ranks)}
    form = choice(("text", "json"), "json: print what is known of each module", "")
    printed = {"--rank-pattern": pattern, "-o --output-format": form}
    add(parser.add_mutually_exclusive_group(), printed)
    arguments = parser.parse_args(argv)
    prints = arguments.rank_pattern or arguments.output_format == "json"
    if prints and arguments.output:
        parser.error("--output has no effect with --rank-pattern or -o json, which print")

    for each in arguments.adapters:
        _refuse_tensors(each)
    if arguments.rank_pattern and len(arguments.adapters) > 1:
        _averaged(arguments)
        return FINE
    if len(arguments.adapters) > 1:
        parser.error("several adapters need --rank-pattern, which averages their ranks")
    folder, values = Path(arguments.adapters[0]), {}
    refuse_links_out(folder)
    with contextlib.suppress(OSError, ValueError):  # who reads the file next reports these
        values = object_in(folder / "adapter_config.json")
    if values.get("peft_type") == "LORA":
        _lora(folder, values, arguments)
    else:
        _adalora(folder, arguments)
    return FINE


def _averaged(arguments: Namespace) -> None:
    """Print the mean ranks of finished AdaLoRA adapters."""
    from adalora_core.commands.rank_report.averaging import averaged, read_configs
    from adalora_core.commands.rank_report.report import render_rank_pattern

    ranks, scale = averaged(read_configs(arguments.adapters))
    print(render_rank_pattern(ranks, scale, arguments.rank_pattern))


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


def _adalora(folder: Path, arguments: Namespace) -> None:
    """Report on an AdaLoRA adapter."""
    from adalora_core.commands.rank_report import report
    from adalora_core.config.model import read_config

    config = read_config(folder / "adapter_config.json")
    ranks = report.ranks_of(config)
    if form := arguments.rank_pattern:
        scale = config.lora_alpha / config.init_r
        print(report.render_rank_pattern(ranks, scale, form))
    elif arguments.output_format == "json":
        modules = [{"module": path, "rank": rank} for path, rank in ranks.items()]
        print_json(adapter=str(folder), modules=modules)
    else:
        _show(report.rank_report(config, name=folder.name), arguments.output)
    if unfinished := report.progress_of(config, ranks):
        print(f"adalora report: these ranks are not final: {unfinished}", file=sys.stderr)


def _lora(folder: Path, values: Mapping[str, Any], arguments: Namespace) -> None:
    """Report on a LoRA adapter."""
    from adalora_core.commands.rank_report.report import lora_report, measure

    if arguments.rank_pattern:
        raise ValueError(
            "--rank-pattern: the ranks of a LoRA adapter are settings already, in its "
            "adapter_config.json; -o json prints them"
        )
    modules = measure(folder, values)
    if arguments.output_format == "json":
        print_json(adapter=str(folder), modules=modules)
    else:
        _show(lora_report(modules, name=folder.name), arguments.output)
