"""Hostile scripts and notebooks take little processor time, and many others next to none."""

from __future__ import annotations

import json

from nasty_inputs import NASTY
from pace import FINDS_SUPPORT
from programs import output_of_python

MOST_SECONDS = 1.5
"""Of an idle processor for one file."""
MOST_SECONDS_OF_A_FOLDER = 3.0
"""Of an idle processor for 2,000 scripts without AdaLoRA, start of the interpreter included."""

ONE_BY_ONE = """
import json, sys, time
from adalora_core.contract import check_config
from pace import slowness
from pathlib import Path
seconds, slow = {}, slowness()
for path, content_format in json.load(sys.stdin):
    begin = time.process_time()
    report = check_config(Path(path), format=content_format)
    seconds[path] = time.process_time() - begin
json.dump([seconds, max(slow, slowness())], sys.stdout)
"""

FOLDER = """
import sys, time
from adalora_core.cli import main
code = main(["check", "--isolated", "--allow-empty", sys.argv[1]])
spent = time.process_time()
from pace import slowness
print(code, spent / slowness())
"""


def test_no_code_takes_long(tmp_path):
    jobs = []
    for case in NASTY:
        if case.family in {"code", "notebooks"}:
            path = tmp_path / f"{case.family}-{case.name}"
            path.write_bytes(case.content)
            jobs.append((str(path), case.format))
    assert len(jobs) > 50
    seconds, slowness = json.loads(
        output_of_python("-c", ONE_BY_ONE, input=json.dumps(jobs), variables=FINDS_SUPPORT)
    )
    assert not {path: spent for path, spent in seconds.items() if spent > MOST_SECONDS * slowness}


def test_many_scripts_without_adalora_are_passed_over_unparsed(tmp_path):
    text = "import torch\n\n\ndef f(x):\n    return x\n" * 60
    for number in range(2000):
        folder = tmp_path / f"package{number % 40}"
        folder.mkdir(exist_ok=True)
        (folder / f"module{number}.py").write_text(text)
    printed = output_of_python("-c", FOLDER, tmp_path, variables=FINDS_SUPPORT)
    *shown, last = printed.splitlines()
    code, seconds = last.split()
    assert int(code) == 0
    assert any("skipped 2000 files without AdaLoRA" in line for line in shown)
    assert float(seconds) < MOST_SECONDS_OF_A_FOLDER
