"""Hostile input gets its finding in every format, and soon."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from contract_reports import parse
from nasty_inputs import NASTY
from pace import FINDS_SUPPORT
from programs import output_of_python

from adalora_core.checker.reports import FORMATS

LONGEST = 1.5
"""Seconds of an idle processor for one check and all reports."""

FAMILIES = sorted({case.family for case in NASTY})

# One process per family: it reads files' names and formats, and checks each once for all reports.
PROBE = """
import io, json, sys, time
from contextlib import redirect_stderr, redirect_stdout
from adalora_core.commands.cli import main
from pace import slowness
answers, slow = [], slowness()
for path, content_format in json.load(sys.stdin):
    out, err = io.StringIO(), io.StringIO()
    shown, *written = {formats!r}
    reports = [f"--output-file={{each}}={{path}}.{{each}}" for each in written]
    begin = time.process_time()
    with redirect_stdout(out), redirect_stderr(err):
        code = main(
            ["check", "--isolated", "-o", shown, "--format", content_format, *reports, "--", path]
        )
    answers.append((code, out.getvalue(), err.getvalue(), time.process_time() - begin))
json.dump([answers, max(slow, slowness())], sys.stdout)
"""


@pytest.mark.parametrize(
    "family",
    [*FAMILIES[:4], *(pytest.param(each, marks=pytest.mark.slow) for each in FAMILIES[4:])],
)
def test_nasty_input_gets_its_finding_in_every_format_soon(family, tmp_path):
    cases = [case for case in NASTY if case.family == family]
    jobs = []
    for case in cases:
        path = tmp_path / f"{case.name}.{case.format}"
        path.write_bytes(case.content)
        jobs.append((str(path), case.format))
    printed = output_of_python(
        *("-c", PROBE.format(formats=FORMATS)),
        input=json.dumps(jobs),
        variables=FINDS_SUPPORT,
    )
    answers, slowness = json.loads(printed)
    for case, (path, _), (code, out, err, seconds) in zip(cases, jobs, answers, strict=True):
        where = f"{case.family}/{case.name}"
        assert code in (0, 1), where
        assert err == "", where
        assert seconds < LONGEST * slowness, where
        reports = {each: Path(f"{path}.{each}").read_text("utf-8") for each in FORMATS[1:]}
        for format_, text in ({FORMATS[0]: out} | reports).items():
            parse(text, format_)
        (report,) = json.loads(reports["json"])["reports"]
        codes = {d["code"] for d in report["diagnostics"]}
        assert case.codes <= codes, f"{where}: {codes}"
        assert case.codes or not codes, f"{where}: {codes}"


def test_all_families_are_there():
    assert len(FAMILIES) == 11
    assert len(NASTY) > 60
