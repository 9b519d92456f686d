"""Hostile input gets its finding in every format, quickly and in little memory."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from contract_reports import parse
from nasty_inputs import NASTY

from adalora_core.contract.reports import FORMATS

LONGEST = 1.0
"""Seconds for one check and one report."""

MOST_MEMORY = 150
"""Megabytes of the whole process."""

FAMILIES = sorted({case.family for case in NASTY})

# One process per family: it reads files' names and formats, and checks each in every format.
PROBE = """
import io, json, re, sys, time
from contextlib import redirect_stderr, redirect_stdout
from adalora_core.cli import main
answers = []
for path, content_format in json.load(sys.stdin):
    for output in {formats!r}:
        out, err = io.StringIO(), io.StringIO()
        begin = time.process_time()
        with redirect_stdout(out), redirect_stderr(err):
            code = main(["check", "--isolated", "-o", output, "--format", content_format, path])
        answers.append((code, out.getvalue(), err.getvalue(), time.process_time() - begin))
# Not getrusage: its peak is that of the process which forked this one.
peak = int(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1]) / 1024
json.dump([answers, peak], sys.stdout)
"""


@pytest.mark.parametrize("family", FAMILIES)
def test_nasty_input_gets_its_finding_in_every_format_quickly_and_small(family, tmp_path):
    cases = [case for case in NASTY if case.family == family]
    jobs = []
    for case in cases:
        path = tmp_path / f"{case.name}.{case.format}"
        path.write_bytes(case.content)
        jobs.append((str(path), case.format))
    done = subprocess.run(
        [sys.executable, "-c", PROBE.format(formats=FORMATS)],
        input=json.dumps(jobs), capture_output=True, text=True, check=True,
    )  # fmt: skip
    answers, peak = json.loads(done.stdout)
    assert peak < MOST_MEMORY
    rows = iter(answers)
    for case in cases:
        for format_ in FORMATS:
            code, out, err, seconds = next(rows)
            where = f"{case.family}/{case.name} as {format_}"
            assert code in (0, 1), where
            assert err == "", where
            assert seconds < LONGEST, where
            parse(out, format_)
            if format_ == "json":
                (report,) = json.loads(out)["reports"]
                codes = {d["code"] for d in report["diagnostics"]}
                assert case.codes <= codes, f"{where}: {codes}"
                assert case.codes or not codes, f"{where}: {codes}"


def test_all_families_are_there():
    assert len(FAMILIES) == 14
    assert len(NASTY) > 80
