"""Run `adalora export-lora`: write a saved AdaLoRA adapter as plain LoRA, from its files alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from adalora_core.checker.documents import tensors_in
from adalora_core.commands.cli.arguments import BOUND, Parser, add, flag, text
from adalora_core.commands.cli.output import FINE, fail
from adalora_core.floor.errors import AdaLoraError, MissingExtraError
from adalora_core.floor.escaping import visible
from adalora_core.floor.files import read_start
from adalora_core.floor.limits import DEFAULT_LIMITS

if TYPE_CHECKING:
    import argparse

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
    """Run `adalora export-lora ADAPTER_DIR OUT ...` and return the exit code."""
    parser = Parser(
        "Write a saved AdaLoRA adapter as a LoRA adapter with the same outputs, without the base "
        "model.",
        {
            "adalora export-lora adapter lora": "a rank for each module",
            "adalora export-lora adapter lora --pad-ranks": "one rank for all",
        },
        prog="adalora export-lora",
        epilog="exit code: 0 written, 2 could not run",
    )
    add(
        parser, {"adapter": text("ADAPTER_DIR", "folder of the AdaLoRA adapter"), **OUTPUT, **BOUND}
    )
    arguments = parser.parse_args(argv)
    try:
        from adalora_core.training.lora_export import export_folder
    except ModuleNotFoundError as error:
        missing = MissingExtraError(error.name or "torch", "torch", "this command")
        return fail("export-lora", missing)
    if why := foreign_file(arguments.adapter) or refusal(arguments):
        return fail("export-lora", why)
    try:
        export_folder(arguments.adapter, arguments.out, pad_ranks=arguments.pad_ranks)
    except (AdaLoraError, OSError) as error:
        return fail("export-lora", error)
    print(f"wrote a LoRA adapter to {visible(arguments.out)}")
    return FINE


def refusal(arguments: argparse.Namespace) -> str | None:
    """Return why no adapter is written to OUT, if one is there already."""
    if not Path(arguments.out, "adapter_config.json").exists() or arguments.overwrite:
        return None
    other = "name another folder, or replace that one with --overwrite"
    return f"{arguments.out} holds an adapter; {other}"


def foreign_file(place: str) -> str | None:
    """Return what a file of tensors is that was named in place of an adapter's folder."""
    path = Path(place)
    found = path.is_file() and tensors_in(read_start(path, DEFAULT_LIMITS.file_bytes))
    return f"{place}: {found.message}; {found.hint}" if found else None
