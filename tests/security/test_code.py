"""Hostile scripts and notebooks take little processor time, and many others next to none."""

from __future__ import annotations

import json
from pathlib import Path

import pace
import pytest
from pace import FINDS_SUPPORT
from programs import output_of_python

from adalora_core.checker.check import check_config

MOST_SECONDS_OF_A_FOLDER = 3.0
"""Of an idle processor for 2,000 scripts without AdaLoRA, start of the interpreter included."""

FOLDER = """
import sys, time
from adalora_core.commands.cli import main
code = main(["check", "--isolated", "--allow-empty", sys.argv[1]])
spent = time.process_time()
from pace import slowness
print(code, spent / slowness())
"""


SHARED = "".join(f"a{i}=[{','.join([f'a{i - 1}'] * 10)}]\n" for i in range(1, 9))
NESTED = "".join(f"a{i}=[a{i - 1}]\n" for i in range(1, 99))
USES = "".join(f"AdaLoraConfig(target_modules=a{i})\n" for i in range(0, 99, 7))
BEYOND = {
    "values": (f"a0=[1]\n{SHARED}AdaLoraConfig(target_modules=a8)\n", "more than 200000 values"),
    "levels": (f"a0=[1]\n{NESTED}{USES}", "deeper than 64 levels"),
    "digits": (f"AdaLoraConfig(init_r=0x{'f' * 5000})\n", "too many digits"),
    "depth": (f"AdaLoraConfig(init_r={'-' * 20_000}1)\n", "nested too deeply"),
}


@pytest.mark.parametrize("name", BEYOND)
def test_script_beyond_a_limit_is_a_finding(name):
    code, message = BEYOND[name]
    report = check_config(f"from peft import AdaLoraConfig\n{code}", format="python")
    assert [each.message for each in report.diagnostics if message in each.message]


def test_value_of_functions_with_several_returns_is_followed_soon():
    functions = "".join(
        f"def f{i}(m):\n"
        f"    if m.a:\n        return f{i + 1}(m)\n"
        f"    if m.b:\n        return f{i + 1}(m.b)\n"
        f"    return f{i + 1}(m.c)\n"
        for i in range(13)
    )
    code = f"from peft import AdaLoraConfig\n{functions}f0(x).update_and_allocate(1)\n"
    with pace.measured() as spent:
        check_config(code, format="python")
    assert spent.seconds < 3


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
