"""Run `adalora check`: read files, print a report, return an exit code."""

from __future__ import annotations

import dataclasses
import errno
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from adalora_core.checker.reports import FOR_PEOPLE, FORMATS, Outcome, render
from adalora_core.checker.reports.text import fixing_lines, settings_lines
from adalora_core.commands.cli.check_job import Job, inspector_of
from adalora_core.commands.cli.check_options import parse
from adalora_core.commands.cli.files import LINK_OUT, STDIN
from adalora_core.commands.cli.output import CANNOT_RUN, FINDINGS, FINE, fail, print_text
from adalora_core.commands.session import SESSION
from adalora_core.config.fields.table import PEFT_VERSION
from adalora_core.floor.files import write_file
from adalora_core.floor.regular_files import is_inside


def parse_output_file(setting: str) -> tuple[str, Path]:
    """Split `FORMAT=FILE`.

    Raises:
        ValueError: the format is unknown, or the file is missing.
    """
    format_, _, name = setting.partition("=")
    if format_ not in FORMATS or not name:
        raise ValueError(
            f"--output-file: expected FORMAT=FILE, where FORMAT is one of {', '.join(FORMATS)}, "
            f"got {setting!r}"
        )
    return format_, Path(name)


def run(argv: Sequence[str]) -> int:
    """Run `adalora check ...`; return 0 (no findings), 1 (findings) or 2 (could not run)."""
    try:
        options = parse(argv)
        job = Job(options, inspector_of(options))
        files = [parse_output_file(setting) for setting in options.output_file]
        _notify_of_settings(job)
        outcome = job.run()
    except (OSError, ValueError) as error:  # a PolicyError is a ValueError
        return fail("check", error)
    is_empty = not (outcome.reports or outcome.skipped or outcome.too_large)
    is_untold = is_empty and job.tally.failed and options.output_format in FOR_PEOPLE
    if not options.diff and not is_untold:
        # With --fix and -, the fixed text goes to standard output.
        is_behind_text = options.fix and STDIN in options.paths
        print_text(render(outcome, options.output_format), to_stderr=is_behind_text)
    _write(outcome, files, job)
    if job.tally.failed:
        return CANNOT_RUN
    if options.diff:
        return _end_of_diff(job, outcome)
    # A setting of the tree does not let files pass that exceed a bound.
    is_strict = SESSION.beyond and options.project.values.get("exit-zero")
    return FINDINGS if outcome.failed and (is_strict or not options.exit_zero) else FINE


def _notify_of_settings(job: Job) -> None:
    project, version = job.options.project, job.inspector.check.peft_version
    if project.problem is not None:
        job.notify(project.problem, project.file)
    if version is not None and version[:2] > tuple(map(int, PEFT_VERSION.split("."))):
        shown = job.options.peft_version
        job.notify(
            f"--peft-version {shown}: not known, so what holds for PEFT {PEFT_VERSION} is reported",
            fails=False,
        )


def _write(outcome: Outcome, files: Sequence[tuple[str, Path]], job: Job) -> None:
    """Write the reports of `--output-file`; one that cannot be written is reported."""
    whole = dataclasses.replace(outcome, colour=False, is_quiet=False)
    for format_, path in files:
        try:
            if not job.options.follow_links:
                _refuse_link_out(path)
            write_file(path, render(whole, format_).encode())
        except OSError as error:
            job.tally.failed = True
            missing = f"the folder {str(path.parent)!r} does not exist; create it first"
            is_missing = isinstance(error, FileNotFoundError)
            fail("check", f"--output-file {format_}={path}: {missing}" if is_missing else error)


def _refuse_link_out(path: Path) -> None:
    """Raise an OSError if links lead from a file in the working folder out of that."""
    here = Path.cwd()
    is_in_tree = Path(os.path.abspath(path)).is_relative_to(here)  # noqa: PTH100 - keeps links
    # A link in the place of the file itself is replaced.
    if is_in_tree and not is_inside(path.parent, here):
        raise OSError(errno.ELOOP, LINK_OUT, str(path))


def _end_of_diff(job: Job, outcome: Outcome) -> int:
    """Print how many findings a fix would remove, and return the exit code of `--diff`."""
    preview = dataclasses.replace(outcome, reports=tuple(job.tally.previews), fixing=True)
    lines = fixing_lines(preview, "would fix") or ["would fix nothing"]
    if not outcome.is_quiet:
        print(*lines, *settings_lines(outcome), sep="\n", file=sys.stderr)
    is_changed = any(report.fixed for report in job.tally.previews)
    return FINDINGS if is_changed or outcome.fails_besides else FINE
