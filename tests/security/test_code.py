"""Hostile scripts and notebooks take little processor time, and many others next to none."""

from __future__ import annotations

import json
import subprocess
import sys

from nasty_inputs import NASTY

MOST_SECONDS = 1.0
"""Of processor time for one file."""
MOST_SECONDS_OF_A_FOLDER = 1.5
"""Of processor time for 2,000 scripts without AdaLoRA, start of the interpreter included."""

ONE_BY_ONE = """
import json, sys, time
from adalora_core.contract import check_config
from pathlib import Path
seconds = {}
for path, content_format in json.load(sys.stdin):
    begin = time.process_time()
    report = check_config(Path(path), format=content_format)
    seconds[path] = time.process_time() - begin
json.dump(seconds, sys.stdout)
"""

FOLDER = """
import sys, time
from adalora_core.cli import main
code = main(["check", "--isolated", "--allow-empty", sys.argv[1]])
print(code, time.process_time())
"""


def test_no_code_takes_long(tmp_path):
    jobs = []
    for case in NASTY:
        if case.family in {"code", "notebooks"}:
            path = tmp_path / f"{case.family}-{case.name}"
            path.write_bytes(case.content)
            jobs.append((str(path), case.format))
    assert len(jobs) > 50
    done = subprocess.run(
        [sys.executable, "-c", ONE_BY_ONE],
        input=json.dumps(jobs), capture_output=True, text=True, check=True,
    )  # fmt: skip
    slow = {path: spent for path, spent in json.loads(done.stdout).items() if spent > MOST_SECONDS}
    assert not slow


def test_many_scripts_without_adalora_are_passed_over_unparsed(tmp_path):
    text = "import torch\n\n\ndef f(x):\n    return x\n" * 60
    for number in range(2000):
        folder = tmp_path / f"package{number % 40}"
        folder.mkdir(exist_ok=True)
        (folder / f"module{number}.py").write_text(text)
    done = subprocess.run(
        [sys.executable, "-c", FOLDER, str(tmp_path)], capture_output=True, text=True, check=True
    )
    *shown, last = done.stdout.splitlines()
    code, seconds = last.split()
    assert int(code) == 0
    assert any("skipped 2000 files without AdaLoRA" in line for line in shown)
    assert float(seconds) < MOST_SECONDS_OF_A_FOLDER
