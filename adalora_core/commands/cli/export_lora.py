"""Run `adalora export-lora`: write a saved AdaLoRA adapter as plain LoRA, from its files alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adalora_core.commands.cli.arguments import Parser
from adalora_core.commands.cli.output import FINE, fail
from adalora_core.floor.escaping import visible

if TYPE_CHECKING:
    from collections.abc import Sequence


def make_parser() -> Parser:
    """Return the parser of `adalora export-lora`."""
    parser = Parser(
        prog="adalora export-lora",
        description="Write a saved AdaLoRA adapter as a LoRA adapter with the same outputs. The "
        "base model is not needed. For adapted convolutions call AdaLoraModel.export_lora instead.",
        epilog="exit code: 0 written, 2 could not run",
    )
    parser.add_argument("adapter", metavar="ADAPTER_DIR", help="folder of the AdaLoRA adapter")
    parser.add_argument("out", metavar="OUT", help="folder for the LoRA adapter")
    parser.add_argument(
        "--pad-ranks",
        action="store_true",
        help="give every module the largest rank, with zeros, for loaders that take one rank and "
        "one alpha for all modules (TensorRT-LLM, llama.cpp)",
    )
    return parser


def run(argv: Sequence[str]) -> int:
    """Run `adalora export-lora ADAPTER_DIR OUT [--pad-ranks]` and return the exit code."""
    arguments = make_parser().parse_args(argv)

    try:
        from adalora_core.training.lora_export import export_folder
    except ModuleNotFoundError as error:
        from adalora_core.floor.errors import MissingExtraError

        missing = MissingExtraError(error.name or "torch", "torch", "this command")
        return fail("export-lora", missing)
    from adalora_core.floor.errors import AdaLoraError

    try:
        export_folder(arguments.adapter, arguments.out, pad_ranks=arguments.pad_ranks)
    except (AdaLoraError, OSError) as error:
        return fail("export-lora", error)
    print(f"wrote a LoRA adapter to {visible(arguments.out)}")
    return FINE
