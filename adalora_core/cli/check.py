"""`adalora check`: files in, a report out, an exit code for the pipeline."""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adalora_core.cli.check_options import parse
from adalora_core.cli.exit_codes import CANNOT_RUN, FINDINGS, FINE
from adalora_core.cli.files import STDIN, Target, targets
from adalora_core.cli.output import parse_output_file, print_text, wants_colour, write_file
from adalora_core.contract.assembly import assemble
from adalora_core.contract.block import Block
from adalora_core.contract.check import decode_further, parse_version
from adalora_core.contract.diagnostics import SEVERITIES
from adalora_core.contract.discovery import ADALORA_WORDS, block_at, find_blocks
from adalora_core.contract.options import CheckOptions
from adalora_core.contract.reports import Outcome, render
from adalora_core.contract.rule import Finding
from adalora_core.contract.rules.input import NO_BLOCK
from adalora_core.contract.selection import Selection
from adalora_core.contract.sources.limits import Limits
from adalora_core.contract.sources.reading import format_of, read_bytes, to_text

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence

    from adalora_core.contract.diagnostics import Report


def run(argv: Sequence[str]) -> int:
    """Run `adalora check ...`; 0 fine, 1 findings, 2 could not run."""
    try:
        options = parse(argv)
        job = _Job.of(options)
        files = [parse_output_file(setting) for setting in options.output_file]
    except (OSError, ValueError) as error:
        return _fail(error)
    outcome = job.run()
    is_empty = not outcome.reports and not outcome.skipped
    if not (is_empty and job.failed):
        print_text(render(outcome, options.output_format))
    for format_, path in files:
        plain = dataclasses.replace(outcome, colour=False)
        try:
            write_file(path, render(plain, format_).encode())
        except OSError as error:
            job.failed = True
            _fail(error)
    if is_empty and not job.failed and not options.allow_empty:
        return _fail(ValueError("nothing to check: no file matched (--allow-empty lets this pass)"))
    if job.failed:
        return CANNOT_RUN
    return FINE if options.exit_zero else _exit_code(outcome, options.fail_level)


def _fail(error: Exception) -> int:
    text = str(error)
    if isinstance(error, OSError) and error.filename is not None:
        text = f"{error.filename}: {error.strerror}"
    print(f"adalora check: {text}", file=sys.stderr)
    return CANNOT_RUN


def _exit_code(outcome: Outcome, fail_level: str) -> int:
    failing = SEVERITIES[: SEVERITIES.index(fail_level) + 1]
    found = any(d.severity in failing for report in outcome.reports for d in report.diagnostics)
    return FINDINGS if found else FINE


@dataclass
class _Job:
    """One run over all targets."""

    options: Namespace
    check: CheckOptions
    selection: Selection
    failed: bool = False
    skipped: int = 0

    @classmethod
    def of(cls, options: Namespace) -> _Job:
        policy: Any = None
        if options.policy is not None:
            from adalora_core.contract.policy import load_policy

            policy = load_policy(Path(options.policy))
        check = CheckOptions(
            options.runtime,
            options.strict_keys,
            parse_version(options.peft_version),
            Limits.parse(options.limit),
            policy,
        )
        return cls(options, check, Selection.of(options.select, options.ignore))

    def run(self) -> Outcome:
        """Check every target; one that cannot be read is said at once and the others go on."""
        reports = []
        for target in targets(self.options.paths, self.options.exclude):
            try:
                report = self._report(target)
            except OSError as error:
                self.failed = True
                _fail(error)
                continue
            if report is None:
                self.skipped += 1
            else:
                reports.append(self.selection.apply(report))
        return Outcome(
            tuple(reports),
            self.skipped,
            colour=wants_colour(self.options.color),
            fail_level=self.options.fail_level,
        )

    def _report(self, target: Target) -> Report | None:
        """Return the report on a file, or None if it holds no configuration and need not."""
        limits = self.check.limits
        if target.name == STDIN:
            shown = self.options.stdin_filename or "<stdin>"
            raw = sys.stdin.buffer.read(limits.file_bytes + 1)
        else:
            shown = target.name
            raw = read_bytes(target.name, limits)
        is_optional = not target.was_named or self.options.ignore_unmatched
        if not target.was_named and not ADALORA_WORDS.search(raw):
            # Other tools' files need not even be readable.
            return None
        document = to_text(raw, limits)
        if not document.fatal:
            format_ = self.options.format or format_of(shown)
            document = decode_further(document, format_, limits)
        blocks: list[Block] = []
        if not document.fatal:
            if self.options.key is not None:
                found = block_at(document, self.options.key, self.check)
                blocks = [found] if isinstance(found, Block) else []
                missing = found if isinstance(found, Finding) else None
            else:
                blocks = find_blocks(document, self.check, self.options.trainer)
                missing = Finding(NO_BLOCK, (), "no AdaLoRA configuration in this file", "key")
            if not target.was_named:
                blocks = [block for block in blocks if not block.is_other_method]
            if not blocks:
                if is_optional:
                    return None
                document.findings += [missing] if missing else []
        return assemble(document, blocks, shown, self.check)
