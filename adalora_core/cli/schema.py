"""`adalora schema`: prints the JSON Schema of a configuration, or compares a file with it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from adalora_core.cli.exit_codes import CANNOT_RUN, FINDINGS, FINE
from adalora_core.contract.reports.report_schema import report_schema_text
from adalora_core.contract.schema import DRAFTS, config_schema, to_text

if TYPE_CHECKING:
    from collections.abc import Sequence


def run(argv: Sequence[str]) -> int:
    """Run `adalora schema ...`."""
    parser = argparse.ArgumentParser(
        prog="adalora schema", description="Print the JSON Schema of an AdaLoRA configuration."
    )
    parser.add_argument("--draft", choices=tuple(DRAFTS), default="2020-12")
    parser.add_argument(
        "--strict-keys", action="store_true", help="reject keys that PEFT does not know"
    )
    parser.add_argument(
        "--check", metavar="FILE", help="compare FILE with the schema instead of printing it"
    )
    parser.add_argument(
        "--of",
        choices=("config", "report"),
        default="config",
        help="the schema of a configuration, or that of --output-format json",
    )
    options = parser.parse_args(argv)
    if options.of == "report":
        text = report_schema_text()
    else:
        text = to_text(config_schema(options.draft, strict_keys=options.strict_keys))
    if options.check is None:
        print(text, end="")
        return FINE
    try:
        committed = Path(options.check).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        print(f"adalora schema: cannot read {options.check}: {error}", file=sys.stderr)
        return CANNOT_RUN
    if committed == text:
        print(f"{options.check} is up to date")
        return FINE
    arguments = ["--of report"] if options.of == "report" else [f"--draft {options.draft}"]
    arguments += ["--strict-keys"] if options.strict_keys else []
    print(
        f"{options.check} differs from the schema of this version; write it anew with: "
        f"adalora schema {' '.join(arguments)} "
        f"> {options.check}"
    )
    return FINDINGS
