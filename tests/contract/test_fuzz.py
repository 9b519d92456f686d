"""Any bytes in any format get a report, never an exception."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from contract_configs import SOUND, anything
from contract_fixes import fix
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adalora_core.checker.check import check_config
from adalora_core.checker.documents.document import FORMATS
from adalora_core.checker.reports import FORMATS as OUTPUTS
from adalora_core.checker.rules import RULES, example_text

INPUTS = 10_000
"""Of the long fuzz, for each of the formats."""

TOML_SOUND = "".join(f"{key} = {json.dumps(value)}\n" for key, value in SOUND.items())
SCRIPT = """\
from peft import AdaLoraConfig as C, TaskType
STEPS = 3 * 100  # "text" 'é'
kw = dict(init_r='12', **{"lora_rnk": -8.0})
for _ in range(2):
    c = C(target_modules=("q", r'v'), total_step=STEPS, task_type=TaskType.CAUSAL_LM, **kw)
    c.beta1 = f"{c}"
"""
NOTEBOOK = json.dumps({
    "cells": [
        {"cell_type": "markdown", "source": ["# C(\n", "text"]},
        {"cell_type": "code", "source": ["%pip install x\n", *SCRIPT.splitlines(keepends=True)]},
        {"cell_type": "code", "source": "%%time\nc = C(init_r=12.0)  # adalora: ignore[ADA106]"},
    ],
    # Room in which a mutation breaks nothing.
    "metadata": {"language_info": {"name": "python"}, "text": "x" * 1500},
}, ensure_ascii=False)  # fmt: skip
SEEDS = {
    "python": [SCRIPT],
    "notebook": [NOTEBOOK],
    "json": [json.dumps(SOUND, indent=1)],
    "yaml": [yaml.safe_dump(SOUND), "a: &a {x: 1}\nb: {<<: *a}\nc: !!float '8'\nd: |\n x\n"],
    "toml": [TOML_SOUND, "[a.b]\nc = [{d = 1}, 2]\n[[e]]\nf.g = '''x'''\n\"h\" = 1979-05-27\n"],
}
for _rule in (rule for rule in RULES if rule.needs != "run"):
    SEEDS[_rule.language].append(example_text(_rule.bad))

TOKENS = [
    b"{", b"}", b"[", b"]", b'"', b"'", b":", b",", b"\n", b"\t", b"- ", b"? ", b"&a ", b"*a",
    b"!!int ", b"<<: ", b"NaN", b"1e999", b"null", b"true", b"\\u", b"\\ud800", b"\0", b"\xff",
    b"\xef\xbb\xbf", b"=", b"#", b"---\n", b"'''", b'"""', b"0x", b"9" * 30, b"(a+)+", b"%",
    b"|", b">", b"{{", b"\r",
]  # fmt: skip


def _survives(content, format_):
    report = check_config(content, format=format_)
    for diagnostic in report.diagnostics:
        span = diagnostic.span
        assert span is not None
        assert 0 <= span.start <= span.end <= len(report.text)
        assert span.start_line >= 1
        assert span.start_column >= 1
    for output in OUTPUTS:
        report.render(output).encode("utf-8")
    return report


@pytest.mark.parametrize("format_", FORMATS)
@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(content=st.binary(max_size=200) | st.text(max_size=200))
def test_arbitrary_bytes_are_reported_on(format_, content):
    _survives(content, format_)


@settings(max_examples=150)
@given(st.dictionaries(st.sampled_from(list(SOUND)) | st.text(max_size=5), anything, max_size=6))
def test_arbitrary_values_are_reported_on(values):
    _survives(json.dumps(values), "json")
    _survives(yaml.safe_dump(values), "yaml")
    for key in ("", "/a", "/init_r/0"):
        check_config(values, key=key).render("full")


def _mutated(draw, text):
    data = bytearray(text.encode("utf-8", "surrogatepass"))
    for _ in range(draw.randint(1, 6)):
        at = draw.randrange(len(data) + 1)
        action = draw.randrange(4)
        if action == 0:
            data[at:at] = draw.choice(TOKENS)
        elif action == 1:
            del data[at : at + draw.randint(1, 12)]
        elif action == 2:
            data[at : at + 1] = bytes([draw.randrange(256)])
        else:
            other = draw.randrange(len(data) + 1)
            data[at:at] = data[other : other + draw.randint(1, 40)]
    return bytes(data)


def _fuzz(format_, draw, count):
    for _ in range(count):
        content = _mutated(draw, draw.choice(SEEDS[format_]))
        try:
            _survives(content, format_)
        except Exception as error:
            raise AssertionError(f"{format_}: {content!r}") from error


@pytest.mark.parametrize("format_", FORMATS)
def test_mutated_configurations_are_reported_on(format_):
    draw = random.Random(0)  # noqa: S311 - test data
    for seed in SEEDS[format_]:
        for _ in range(4):
            content = _mutated(draw, seed)
            _survives(content, format_)


FIXABLE = {
    "json": '{"peft_type": "adalora", "init_r": 12.0, "target_r": "3", "delta_t": 3}',
    "yaml": "a: &a {init_r: 12.0}\n# adalora: ignore-file[ADA204]\n"
    "b: {<<: *a, peft_type: adalora, target_r: '3', delta_t: 3} # adalora: ignore[ADA106, ADA2]\n",
    "python": SCRIPT,
    "notebook": NOTEBOOK,
    "toml": "[a]\npeft_type = 'adalora' # adalora: ignore[ADA207]\ninit_r = 12.0\nalpha = '3'\n",
}


@pytest.mark.parametrize("format_", FORMATS)
def test_mutated_configurations_are_fixed_and_then_stay_as_they_are(format_):
    draw = random.Random(0)  # noqa: S311 - test data
    count = 0
    for _ in range(400):
        content = _mutated(draw, FIXABLE[format_])
        done = fix(content, format_)
        assert (done.document.raw == content) == (not done.report.fixed), content
        assert fix(done.document.raw, format_).document.raw == done.document.raw, content
        count += bool(done.report.fixed)
    assert count > 20


@pytest.mark.nightly
@pytest.mark.parametrize("format_", FORMATS)
def test_long_fuzz_finds_no_exception(format_):
    seed = random.SystemRandom().randrange(2**32)
    print("seed", seed)  # noqa: T201 - shown by pytest when the test fails
    _fuzz(format_, random.Random(seed), INPUTS)  # noqa: S311 - test data


@pytest.mark.nightly
@pytest.mark.parametrize("repetition", range(5))
def test_properties_hold_for_fresh_examples(repetition):
    seed = time.time_ns() + repetition
    tests = Path(__file__).parents[1]
    files = [str(p) for p in sorted(tests.rglob("test_*.py")) if "@given(" in p.read_text("utf-8")]
    command = [sys.executable, "-m", "pytest", "-q", "-m", "not slow and not nightly"]
    done = subprocess.run(
        [*command, "--hypothesis-profile=fresh", f"--hypothesis-seed={seed}", *files],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"seed {seed}\n{done.stdout[-6000:]}"
