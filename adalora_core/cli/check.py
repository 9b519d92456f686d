"""`adalora check`: files in, a report out, an exit code for the pipeline."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from adalora_core.cli.exit_codes import CANNOT_RUN, FINDINGS, FINE
from adalora_core.contract.assembly import assemble
from adalora_core.contract.block import Block
from adalora_core.contract.check import decode_further, parse_version
from adalora_core.contract.diagnostics import SEVERITIES
from adalora_core.contract.discovery import block_at, find_blocks
from adalora_core.contract.options import CheckOptions
from adalora_core.contract.reports import FORMATS as OUTPUT_FORMATS
from adalora_core.contract.reports import render
from adalora_core.contract.rule import Finding
from adalora_core.contract.rules.input import NO_BLOCK
from adalora_core.contract.sources.limits import Limits
from adalora_core.contract.sources.reading import FORMATS, format_of, read_bytes, to_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from adalora_core.contract.diagnostics import Report

STDIN = "-"


def run(argv: Sequence[str]) -> int:
    """Run `adalora check ...`; 0 fine, 1 findings, 2 could not run."""
    options = _parser().parse_args(argv)
    try:
        check_options = CheckOptions(
            options.runtime,
            options.strict_keys,
            parse_version(options.peft_version),
            Limits.parse(options.limit),
        )
        reports = [_check(name, options, check_options) for name in options.paths]
    except (OSError, ValueError) as error:
        print(f"adalora check: {_one_line(error)}", file=sys.stderr)
        return CANNOT_RUN
    print(render(reports, options.output_format), end="")
    return _exit_code(reports, options.fail_level)


def _check(name: str, options: argparse.Namespace, check_options: CheckOptions) -> Report:
    limits = check_options.limits
    if name == STDIN:
        shown = options.stdin_filename or "<stdin>"
        document = to_text(sys.stdin.buffer.read(limits.file_bytes + 1), limits)
    else:
        shown = name
        document = to_text(read_bytes(name, limits), limits)
    blocks: list[Block] = []
    if not document.fatal:
        document = decode_further(document, options.format or format_of(shown), limits)
    if not document.fatal and options.key is not None:
        found = block_at(document, options.key, check_options)
        if isinstance(found, Block):
            blocks = [found]
        else:
            document.findings.append(found)
    elif not document.fatal:
        blocks = find_blocks(document, check_options, options.trainer)
        if not blocks:
            document.findings.append(
                Finding(NO_BLOCK, (), "no AdaLoRA configuration in this file", "key")
            )
    return assemble(document, blocks, shown, check_options)


def _exit_code(reports: Sequence[Report], fail_level: str) -> int:
    failing = SEVERITIES[: SEVERITIES.index(fail_level) + 1]
    found = any(d.severity in failing for report in reports for d in report.diagnostics)
    return FINDINGS if found else FINE


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"cannot read {error.filename}: {error.strerror}"
    return str(error)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="adalora check",
        description="Check AdaLoRA configurations; exit code 0 fine, 1 findings, 2 could not run.",
    )
    parser.add_argument("paths", nargs="+", metavar="FILE", help="a file, or - for standard input")
    parser.add_argument("--output-format", choices=OUTPUT_FORMATS, default="full")
    parser.add_argument(
        "--runtime",
        choices=("peft", "adalora-core"),
        default="peft",
        help="who will train (default: peft)",
    )
    parser.add_argument(
        "--strict-keys", action="store_true", help="make unknown keys errors instead of warnings"
    )
    parser.add_argument(
        "--fail-level",
        choices=SEVERITIES,
        default="error",
        help="the mildest severity that makes the exit code 1 (default: error)",
    )
    parser.add_argument(
        "--key", metavar="POINTER", help="JSON pointer of the AdaLoRA mapping, such as /model/peft"
    )
    parser.add_argument(
        "--trainer",
        choices=("peft", "prefixed", "section", "flat"),
        help="how the file's tool writes AdaLoRA's settings (default: all are tried)",
    )
    parser.add_argument(
        "--format", choices=FORMATS, help="default: by the file's suffix, else json"
    )
    parser.add_argument("--stdin-filename", metavar="NAME", help="the name to report for -")
    parser.add_argument("--peft-version", metavar="X.Y", help="also judge for this PEFT release")
    parser.add_argument(
        "--limit",
        action="append",
        default=[],
        metavar="NAME=NUMBER",
        help="raise or lower a limit: file-bytes, depth, nodes, regex-length, diagnostics",
    )
    return parser
