"""Names of committed files are never options: hooks require `--` before them."""

from __future__ import annotations

import json

import pytest

from adalora_core.config.rules.base import SOUND

ENTRY = ("check", "--ignore-unmatched", "--names-after-dashes")
NAMES = (
    "--exclude=bad.json",
    "--output-file=json=x.json",
    "--fix",
    "--isolated",
    "-",
    "--exit-zero",
)


@pytest.fixture
def committed(confined):
    confined.write({"bad.json": json.dumps(SOUND | {"deltaT": 0}), "x.json": json.dumps(SOUND)})
    confined.write(dict.fromkeys(NAMES, "{}"))
    return confined


@pytest.mark.parametrize("args", [["--"], ["--fail-level", "warning", "--"], ["--fix", "--"]])
def test_names_behind_dashes_are_names(committed, args):
    committed.write({"-": json.dumps(SOUND | {"deltaT": 0})})
    done = committed.run(*ENTRY, *args, *NAMES, "bad.json", "x.json")
    assert done.returncode == 1, done.stderr
    assert "bad.json" in done.stdout
    assert "--> ./-:" in done.stdout or "--> -:" in done.stdout
    assert (committed.tree / "x.json").read_text() == json.dumps(SOUND)


@pytest.mark.parametrize("args", [[], ["--fail-level", "warning"]])
def test_call_of_a_hook_without_dashes_is_refused(committed, args):
    done = committed.run(*ENTRY, *args, *NAMES, "bad.json", "x.json")
    assert (done.returncode, done.stdout) == (2, "")
    assert "write args: [..., --]\n" in done.stderr
    assert (committed.tree / "x.json").read_text() == json.dumps(SOUND)
