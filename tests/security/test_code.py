"""Hostile scripts and notebooks take little processor time, and many others next to none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from confined import SUPPORT
from hostile_scripts import HOSTILE
from nasty_inputs import NASTY
from pace import FINDS_SUPPORT
from programs import output_of_python

MOST_SECONDS = 1.5
"""Of an idle processor for one file."""
MOST_SECONDS_OF_A_FOLDER = 3.0
"""Of an idle processor for 2,000 scripts without AdaLoRA, start of the interpreter included."""

MOST_MEMORY = 300 << 20
"""Of the process that checks the hostile scripts, above its imports."""
OF_THE_HOOKS = ["--ignore-unmatched", "--names-after-dashes"]

ONE_BY_ONE = """
import json, sys, time
from adalora_core.checker import check_config
from pace import slowness
from pathlib import Path
seconds, slow = {}, slowness()
for path, content_format in json.load(sys.stdin):
    begin = time.process_time()
    report = check_config(Path(path), format=content_format)
    seconds[path] = time.process_time() - begin
json.dump([seconds, max(slow, slowness())], sys.stdout)
"""

BOTH_DOORS = f"""
import contextlib, io, json, sys, time
sys.path.insert(0, {SUPPORT!r})
from adalora_core.commands.cli import main
from fuzz_worker import forget_peak, peak
from pace import slowness
import adalora_core.checker.documents.python.source
for path in json.load(sys.stdin):
    for options in ([], {OF_THE_HOOKS!r}):
        shown, slow, before = io.StringIO(), slowness(), forget_peak() or peak()
        begin = time.process_time()
        with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(shown):
            code = main(["check", "--isolated", "-o", "concise", *options, "--", path])
        seconds = (time.process_time() - begin) / max(slow, slowness())
        print(json.dumps([path, code, seconds, peak() - before, shown.getvalue()]), flush=True)
"""

FOLDER = """
import sys, time
from adalora_core.commands.cli import main
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


CHOSEN = {
    "shared-lists",
    "shared-keywords",
    "shared-spread",
    "computed-round",
    "tokens-number",
    "followed-steps",
}


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(sorted(CHOSEN), id="chosen"),
        pytest.param(sorted(HOSTILE.keys() - CHOSEN), id="others", marks=pytest.mark.slow),
    ],
)
def test_hostile_script_is_bounded_in_the_command_and_the_hooks(confined, names):
    confined.write({f"{name}.py": HOSTILE[name].code for name in names})
    done = confined.run_python(
        "-c", BOTH_DOORS, input=json.dumps([f"{name}.py" for name in names]), stdin=None
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == 2 * len(names), (answers[-1:], done.stderr)
    for path, code, seconds, memory, shown in answers:
        assert code in (0, 1), shown[-2000:]
        assert HOSTILE[path.removesuffix(".py")].phrase in shown, (path, shown[-2000:])
        assert seconds < MOST_SECONDS, path
        assert memory < MOST_MEMORY, path


BOLD = "\N{MATHEMATICAL BOLD CAPITAL A}daLoraConfig"
CALL = b"AdaLoraConfig(init_r='12', total_step=9)"
UNREAD = {
    "escaped.py": b"# coding: raw_unicode_escape\nr = 12 # \\u000ar = 4\n" + CALL,
    "hidden.py": b"# coding: utf-7\n+AEEAZABh-" + CALL[3:],
    "late.py": b"#" * 9000 + b"\n# coding: utf-7\n+AEEAZABh-" + CALL[3:],
    "unknown.py": b"# coding: nonsense\n" + CALL,
    "marked.py": b"\xef\xbb\xbf# coding: latin-1\n" + CALL,
}
DISGUISED = {
    "bold.py": f"from peft import {BOLD}\n{BOLD}(init_r='12', total_step=9)\n",
    "ordinal.py": b"# coding: latin-1\nAdaL\xbaraConfig(init_r='12', total_step=9)\n",
    "pasted.ipynb": json.dumps(
        {"cells": [{"cell_type": "code", "source": f"{BOLD}(init_r='12', total_step=9)"}]}
    ),
    "japanese.py": b"# coding: iso2022_jp\nx = '\x1b$B$\"\x1b(B'; AdaLora\x1b(B" + CALL[7:],
    "cut.ipynb": json.dumps(
        {"cells": [{"cell_type": "code", "source": ["Ada", "", "Lora" + CALL[7:].decode()]}]}
    ),
    "method.py": "m.update_\N{FULLWIDTH LATIN SMALL LETTER A}nd_allocate(1) # adalora\nx = (\n",
}


def test_names_in_other_letters_are_found_in_a_folder(confined):
    confined.write(DISGUISED)
    report = json.loads(confined.run("check", "--isolated", "-o", "json", ".").stdout)
    found = {
        Path(each["source"]).name: {diagnostic["code"] for diagnostic in each["diagnostics"]}
        for each in report["reports"]
    }
    assert found.keys() == DISGUISED.keys()
    assert "ADA001" in found.pop("method.py")
    assert all("ADA102" in codes for codes in found.values())
    cells = [{"cell_type": "code", "source": f"{BOLD}(init_r="}]
    confined.write({"half.ipynb": json.dumps({"cells": cells})})
    assert "ADA001" in confined.run("check", "--isolated", "half.ipynb").stdout


@pytest.mark.parametrize("named", [".", "escaped.py hidden.py late.py unknown.py marked.py"])
def test_script_in_an_encoding_of_escapes_is_refused(confined, named):
    confined.write(UNREAD)
    done = confined.run("check", "--isolated", "-o", "json", *named.split())
    found = {
        Path(each["source"]).name: [(d["code"], d["message"]) for d in each["diagnostics"]]
        for each in json.loads(done.stdout)["reports"]
    }
    assert found.keys() == UNREAD.keys()
    for ((code, message),) in found.values():
        assert code == "ADA004"
        assert message.startswith("the file declares the encoding ")


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
