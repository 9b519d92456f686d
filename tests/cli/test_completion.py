"""Test the completion of shells in the shells themselves."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from adalora_core.cli import COMMANDS, main
from adalora_core.cli.completion import SHELLS
from adalora_core.contract.reports import FORMATS
from adalora_core.contract.rules import RULES

FISH = 'source $COMPLETION\ncomplete -C "$argv"\n'
BASH = r"""
source "$COMPLETION"
read -r _ function _ <<< "$(complete -p adalora | sed 's/.*-F/-F/')"
while IFS=$'\x1f' read -ra words; do
  unset 'words[-1]'  # it only keeps an empty word before it
  COMP_WORDS=("${words[@]}")
  COMP_CWORD=$((${#words[@]} - 1))
  COMPREPLY=()
  "$function"
  echo "${COMPREPLY[*]}"
done
"""
CASES = [
    (["ch"], {"check"}),
    ([""], set(COMMANDS)),
    (["check", "--show-"], {"--show-files", "--show-settings"}),
    (["check", "a.json", "--fail"], {"--fail-level"}),
    (["check", "--fail-level", ""], {"error", "warning", "info"}),
    (["check", "-o", ""], set(FORMATS)),
    (["check", "ru"], {"runs", "run.yaml"}),
    (["check", "run.yaml", "ru"], {"runs", "run.yaml"}),
    (["check", "--policy", "ru"], {"runs", "run.yaml"}),
    (["plan", "--weights", "ru"], {"runs", "run.yaml"}),
    (["report", "ru"], {"runs"}),
    (["rule", "ADA10"], {rule.code for rule in RULES if rule.code.startswith("ADA10")}),
    (["schema", "--flavour", ""], {"portable", "editor"}),
    (["completion", ""], set(SHELLS)),
]


def _name(words):
    return " ".join(sorted(words))  # a set has another order in each process


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Write the completions of all shells, and return their folder."""
    pytest.importorskip("shtab", reason="would show that shells complete commands and options")
    folder = tmp_path_factory.mktemp("completion")
    for shell in SHELLS:
        command = [sys.executable, "-m", "adalora_core", "completion", shell]
        (folder / shell).write_bytes(
            subprocess.run(command, capture_output=True, check=True).stdout
        )
    return folder


def _run(shell, *arguments, written, lines=""):
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"no {shell}: would show that it completes commands and options")
    environment = {**os.environ, "COMPLETION": str(written / shell), "HOME": str(written)}
    done = subprocess.run(
        [program, *arguments],
        env=environment,
        input=lines,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_bash_completes(written):
    Path("runs").mkdir()
    Path("run.yaml").touch()
    lines = "".join("\x1f".join(["adalora", *words, ".\n"]) for words, _ in CASES)
    out = _run("bash", "--norc", "-c", BASH, written=written, lines=lines).splitlines()
    found = {
        " ".join(words): set(line.split()) for (words, _), line in zip(CASES, out, strict=True)
    }
    assert found == {" ".join(words): expected for words, expected in CASES}


@pytest.mark.parametrize(
    ("words", "expected"),
    [case for case in CASES if case[0][-1] not in {"", "ru"}],
    ids=_name,
)
def test_fish_completes(written, words, expected):
    line = " ".join(["adalora", *words])
    out = _run("fish", "--no-config", "-c", FISH, line, written=written)
    assert expected <= {row.split("\t")[0] for row in out.splitlines()}


def test_zsh_knows_the_completion(written):
    code = 'autoload -U compinit; compinit -D -u; eval "$(cat $COMPLETION)"; print $_comps[adalora]'
    assert _run("zsh", "-f", "-c", code, written=written).startswith("_shtab_adalora")


def test_every_command_is_completed():
    for place, _ in COMMANDS.values():
        parser = importlib.import_module(place.partition(":")[0]).make_parser()
        assert parser.prog.removeprefix("adalora ") in COMMANDS


def test_completion_without_its_package_names_the_command_to_install_it(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["completion", "bash"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("adalora completion: the completion needs the package 'shtab'; ")
    assert "pip install 'adalora-core[completion]'" in err


def test_shell_that_is_not_known_exits_2(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["completion", "tcsh"])
    assert "invalid choice: 'tcsh'" in capsys.readouterr().err
