"""Run `adalora shrink`, `export-lora` and `report` on the files of saved adapters."""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
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
    part,
    print_json,
    print_text,
    size,
    text,
)
from adalora_core.floor.errors import MissingExtraError
from adalora_core.floor.escaping import shortened, visible
from adalora_core.floor.files import object_in, read_start, refuse_links_out
from adalora_core.floor.limits import DEFAULT_LIMITS

if TYPE_CHECKING:
    from argparse import Namespace

    from adalora_core.commands.rank_report.report import RankReport
    from adalora_core.training.shrinking import ShrunkAdapter

_WIDTH = 80
"""The most characters of a path in the table."""
OUTPUT = {
    "out": text("OUT", "folder for the LoRA adapter"),
    "--pad-ranks": flag(
        "give every module the largest rank, with zeros, for loaders that take one rank and one "
        "alpha for all modules (TensorRT-LLM, llama.cpp)"
    ),
    "--overwrite": flag("replace the adapter that is in OUT"),
}
"""The arguments of a command that writes a LoRA adapter."""


def run(argv: Sequence[str]) -> int:
    """Run `adalora shrink ADAPTER_DIR OUT ...` and return the exit code."""
    form = choice(("text", "json"), "format of what is printed (default: text)", "text")
    parser = Parser(
        "shrink",
        "Write a trained LoRA, rsLoRA or AdaLoRA adapter as a smaller LoRA with a rank for each "
        "module, without data or training, which keeps the largest squared singular values.",
        {
            "adalora shrink adapter small --budget 20MB": "at most 20 MB, or 50%",
            "adalora shrink adapter small --rank 8": "8 on average",
        },
        {"adapter": text("ADAPTER", "folder of the adapter")},
        epilog="exit code: 0 written, 2 could not run",
    )
    most = text("SIZE", "most bytes of the file with the weights, for example 20MB")
    least = text("PART", "part that each module keeps of its energy, for example 0.95 or 95%%")
    sizes = {
        "--budget": most | {"type": size},
        "--rank": text("RANK", "mean rank of all modules") | {"type": float},
        "--energy": least | {"type": part},
    }
    add(parser.add_mutually_exclusive_group(required=True), sizes)
    add(parser, {**OUTPUT, "-o --output-format": form, **BOUND})
    options = parser.parse_args(argv)
    with _training():
        from adalora_core.training.shrinking import read_trained, shrink
    _refuse_other(options)
    adapter = read_trained(options.adapter)
    _refuse_unsound(adapter.folder)
    budget = options.budget
    if isinstance(budget, float):
        budget = int(budget * adapter.bytes)
    limits = {"rank": options.rank, "budget": budget, "energy": options.energy}
    shrunk = shrink(adapter, **limits, pad_ranks=options.pad_ranks)
    shrunk.write(options.out)
    entries = {"adapter": options.adapter, "out": options.out, **_entries(shrunk)}
    if options.output_format == "json":
        print_json(**entries)
    else:
        print_text(_text(entries))
    return FINE


def _refuse_unsound(folder: Path) -> None:
    """Raise ValueError if PEFT would ignore tensors of a LoRA, or not load it."""
    from adalora_core.checker.plan.adapter_tensors import WEIGHTS, SavedLora

    values = object_in(folder / "adapter_config.json") if (folder / WEIGHTS).is_file() else {}
    if values.get("peft_type") == "LORA":
        SavedLora(folder, values).require_sound()


def _entries(shrunk: ShrunkAdapter) -> dict[str, Any]:
    modules: list[dict[str, Any]] = [
        {
            "module": path,
            "rank_before": len(module.A),
            "rank": shrunk.ranks[path],
            "energy": shrunk.energy(path),
            "error": math.sqrt(1 - min(1, shrunk.energy(path))),
        }
        for path, module in shrunk.adapter.modules.items()
    ]
    dropped = [path for path, rank in shrunk.ranks.items() if not rank]
    return {
        "bytes_before": shrunk.adapter.bytes,
        "bytes": shrunk.file.size,
        "energy": shrunk.energy(),
        "carried_along": list(shrunk.adapter.others),
        "dropped": dropped,
        "largest_error": max(each["error"] for each in modules if each["rank"]),
        "modules": modules,
    }


def _text(entries: dict[str, Any]) -> str:
    modules = [{**each, "module": shortened(each["module"], _WIDTH)} for each in entries["modules"]]
    width = max(len(each["module"]) for each in modules)
    lines = [f"{'module':<{width}}  {'rank':>12}  energy  error"]
    for each in modules:
        cut = f"{each['rank_before']} -> {each['rank'] or 'dropped'}"
        shown = f"{each['module']:<{width}}  {cut:>12}"
        lines.append(f"{shown}  {each['energy']:6.1%}  {each['error']:5.3f}")
    ranks, worst = [each["rank"] for each in modules], entries["largest_error"]
    carried = len(entries["carried_along"])
    lines += [
        "",
        f"wrote a LoRA adapter to {visible(entries['out'])}",
        f"bytes: {entries['bytes_before']:,} -> {entries['bytes']:,}"
        + (f", with {carried} tensors that are no factors" if carried else ""),
        f"mean rank: {sum(ranks) / len(ranks):.2f}",
        f"dropped: {ranks.count(0)} of {len(ranks)} modules",
        f"energy kept: {entries['energy']:.1%}",
        f"largest error of a kept module, relative to its change: {worst:.3f}",
        "Ranks, and alphas with them, may differ from module to module now.",
        "Every scale is 1; the former one is in the factors.",
        "An adapter that is trained at this size may be better.",
    ]
    return "\n".join(lines) + "\n"


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
    with _training():
        from adalora_core.training.lora_export import export_folder
    _refuse_other(arguments)
    export_folder(arguments.adapter, arguments.out, pad_ranks=arguments.pad_ranks)
    print(f"wrote a LoRA adapter to {visible(arguments.out)}")
    return FINE


@contextlib.contextmanager
def _training() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "torch", "torch", "this command") from None


def _refuse_other(arguments: Namespace) -> None:
    """Raise ValueError if a file of tensors is named, or OUT holds an adapter that is to stay."""
    path = Path(arguments.adapter)
    found = path.is_file() and tensors_in(read_start(path, DEFAULT_LIMITS.file_bytes))
    if found:
        raise ValueError(f"{path}: {found.message}; {found.hint}")
    out = getattr(arguments, "out", None)
    if out and Path(out, "adapter_config.json").exists() and not arguments.overwrite:
        other = "name another folder, or replace that one with --overwrite"
        raise ValueError(f"{out} holds an adapter; {other}")


def run_report(argv: Sequence[str]) -> int:
    """Run `adalora report ADAPTER_DIR [options]` and return the exit code."""
    from adalora_core.commands.rank_report.report import FORMATS

    files = "write rank_report.md and, with matplotlib, rank_heatmap.png to this folder instead"
    output = text("DIR", files)
    parser = Parser(
        "report",
        "Print the ranks of a saved AdaLoRA or LoRA adapter as a table; of LoRA, with torch, also "
        "the norm of each module's change and its effective rank.",
        {
            "adalora report adapter": "print a table",
            "adalora report adapter --output ranks": "write it, and a map",
        },
        {"adapter": text("ADAPTER_DIR", "folder of the adapter"), "--output": output, **BOUND},
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

    _refuse_other(arguments)
    folder, values = Path(arguments.adapter), {}
    refuse_links_out(folder)
    with contextlib.suppress(OSError, ValueError):  # who reads the file next reports these
        values = object_in(folder / "adapter_config.json")
    if values.get("peft_type") == "LORA":
        _lora(folder, values, arguments)
    else:
        _adalora(folder, arguments)
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


def _adalora(folder: Path, arguments: Namespace) -> None:
    """Report on an AdaLoRA adapter."""
    from adalora_core.commands.rank_report import report
    from adalora_core.config.model import read_config

    config = read_config(folder / "adapter_config.json")
    ranks = report.ranks_of(config)
    if arguments.rank_pattern:
        print(report.render_rank_pattern(config, arguments.rank_pattern))
    elif arguments.output_format == "json":
        modules = [{"module": path, "rank": rank} for path, rank in ranks.items()]
        print_json(adapter=arguments.adapter, modules=modules)
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
    modules, why = measure(folder, values)
    if arguments.output_format == "json":
        print_json(adapter=arguments.adapter, modules=modules)
    else:
        _show(lora_report(modules, name=folder.name, why=why), arguments.output)
    if why:
        print(f"adalora report: left norms out: {visible(why)}", file=sys.stderr)
