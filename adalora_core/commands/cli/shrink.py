"""Run `adalora shrink`: write a trained LoRA or AdaLoRA adapter smaller, from its files alone."""

from __future__ import annotations

import argparse
import json
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING

from adalora_core.commands.cli.arguments import Parser, add, choice, text
from adalora_core.commands.cli.export_lora import OUTPUT, refusal
from adalora_core.commands.cli.output import FINE, fail, print_text
from adalora_core.floor.errors import AdaLoraError, MissingExtraError
from adalora_core.floor.escaping import visible
from adalora_core.floor.files import write_file

if TYPE_CHECKING:
    from collections.abc import Sequence

    from adalora_core.training.shrinking import ShrunkAdapter

_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9}
_UNITS |= {"kib": 2**10, "mib": 2**20, "gib": 2**30}


def make_parser() -> Parser:
    """Return the parser of `adalora shrink`."""
    parser = Parser(
        prog="adalora shrink",
        description="Write a trained LoRA, rsLoRA or AdaLoRA adapter as a smaller LoRA with a rank "
        "for each module, by the singular values of its changes, without data or training. The "
        "base model is not needed.",
        epilog="exit code: 0 written, 2 could not run",
    )
    size = "bytes of the file with the weights: keep the most energy per byte over all modules"
    share = "part from 0 to 1 of the energy (squared singular values) that each module keeps"
    add(parser, {"adapter": text("ADAPTER_DIR", "folder of the adapter")})
    add(
        parser.add_mutually_exclusive_group(required=True),
        {
            "--budget": {"type": _size, **text("SIZE", f"{size}; for example 20MB")},
            "--rank": {
                "type": _positive,
                **text("RANK", "mean rank: keep the most energy over all modules"),
            },
            "--energy": {"type": _share, **text("PART", f"{share}; for example 0.95")},
        },
    )
    picture = text("FILE.png", "also draw a map of the ranks to this file")
    form = choice(("text", "json"), "format of what is printed (default: text)", "text")
    add(parser, {**OUTPUT, "--plot": picture, "-o --output-format": form})
    return parser


def run(argv: Sequence[str]) -> int:
    """Run `adalora shrink ADAPTER_DIR OUT ...` and return the exit code."""
    arguments = make_parser().parse_args(argv)
    try:
        from adalora_core.training.shrinking import read_trained, shrink
    except ModuleNotFoundError as error:
        return fail("shrink", MissingExtraError(error.name or "torch", "torch", "this command"))
    if why := refusal(arguments):
        return fail("shrink", why)
    try:
        shrunk = shrink(
            read_trained(arguments.adapter),
            rank=arguments.rank,
            budget=arguments.budget,
            energy=arguments.energy,
            pad_ranks=arguments.pad_ranks,
        )
        # Draw before writing: if matplotlib is missing, nothing is written.
        picture = _picture(shrunk) if arguments.plot else None
        shrunk.write(arguments.out)
        if picture is not None:
            write_file(Path(arguments.plot), picture)
    except (AdaLoraError, OSError, ValueError) as error:
        return fail("shrink", error)
    as_json = arguments.output_format == "json"
    print_text(_json(shrunk, arguments) if as_json else _text(shrunk, arguments))
    return FINE


def _picture(shrunk: ShrunkAdapter) -> bytes:
    try:
        from adalora_core.commands.rank_report.heatmap import rank_heatmap

        largest = max(len(each.pair.A) for each in shrunk.adapter.modules.values())
        title = f"Rank of each matrix: {shrunk.adapter.folder.name}"
        return rank_heatmap(shrunk.file.ranks, init_r=largest, title=title)
    except ModuleNotFoundError:
        raise MissingExtraError("matplotlib", "plot", "--plot") from None


def _error(kept: float) -> float:
    """Return the relative error of a change of which a part of the energy is kept."""
    return math.sqrt(max(0.0, 1 - kept))


def _json(shrunk: ShrunkAdapter, arguments: argparse.Namespace) -> str:
    modules = [
        {
            "module": path,
            "rank_before": len(shrunk.adapter.modules[path].pair.A),
            "rank": shrunk.file.ranks[path],
            "energy": kept,
            "error": _error(kept),
        }
        for path, kept in shrunk.kept.items()
    ]
    entries = {
        "version": 1,
        "adapter": arguments.adapter,
        "out": arguments.out,
        "bytes_before": shrunk.adapter.bytes,
        "bytes": shrunk.file.size(),
        "energy": shrunk.energy,
        "largest_error": _error(min(shrunk.kept.values())),
        "modules": modules,
    }
    return json.dumps(entries, indent=2) + "\n"


def _text(shrunk: ShrunkAdapter, arguments: argparse.Namespace) -> str:
    ranks, before, after = shrunk.file.ranks, shrunk.adapter.bytes, shrunk.file.size()
    names = {path: visible(path) for path in ranks}
    width = max(map(len, names.values()))
    lines = [f"{'module':<{width}}  {'rank':>11}  energy  error"]
    for path, kept in shrunk.kept.items():
        cut = f"{len(shrunk.adapter.modules[path].pair.A)} -> {ranks[path]}"
        lines.append(f"{names[path]:<{width}}  {cut:>11}  {kept:6.1%}  {_error(kept):5.3f}")
    left_out = sum(rank == 0 for rank in ranks.values())
    worst = _error(min(shrunk.kept.values()))
    lines += [
        "",
        f"wrote a LoRA adapter to {visible(arguments.out)}",
        f"bytes: {before:,} -> {after:,} ({after / before:.0%})",
        f"mean rank: {sum(ranks.values()) / len(ranks):.2f}; {left_out} of {len(ranks)} modules "
        "left out",
        f"energy kept: {shrunk.energy:.1%}; largest relative error of a module: {worst:.3f}",
        "An adapter that is trained at this size may be better: see docs/shrink.md.",
    ]
    return "\n".join(lines) + "\n"


def _size(value: str) -> int:
    found = re.fullmatch(r"(\d{1,15}(?:\.\d{1,15})?) ?([a-z]*)", value.strip().lower())
    if not found or found[2] not in _UNITS:
        raise argparse.ArgumentTypeError(
            f"expected a size such as 20MB, 1.5GiB or 20000000, got {value!r}"
        )
    return int(float(found[1]) * _UNITS[found[2]])


def _number(value: str, what: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"expected {what}, got {value!r}")
    return number


def _positive(value: str) -> float:
    return _number(value, "a number above 0")


def _share(value: str) -> float:
    what = "a number above 0 and at most 1"
    return _number(value if _number(value, what) <= 1 else "", what)
