"""Test `adalora plan --budget`: amounts, proposals, and their plans."""

from __future__ import annotations

import json
import re

import pytest
from header_files import small_llama, write_model

from adalora_core.commands.cli import main
from adalora_core.config.rules.base import SOUND

LORA = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]}


def _plan(write, capsys, model, fields, *arguments):
    code = main(["plan", str(write(fields)), "--weights", str(model), *arguments])
    return code, capsys.readouterr()


def test_plan_shows_the_proposal_and_what_it_comes_to(write, tmp_path, capsys):
    write_model(tmp_path / "model.safetensors", small_llama())
    code, shown = _plan(write, capsys, tmp_path, SOUND, "--budget", "4 kB")
    assert code == 0
    assert shown.out.startswith("proposal for at most 4 kB: init_r 8, target_r 5, lora_alpha 11\n")
    assert "every matrix has rank 8\n" in shown.out
    _, shown = _plan(write, capsys, tmp_path, SOUND, "--budget", "4 kB", "-o", "json")
    found = json.loads(shown.out)
    assert found["proposal"]["values"] == {"init_r": 8, "target_r": 5, "lora_alpha": 11}
    assert found["average_rank"] == {"start": 8, "end": 5}
    for given in ("4KiB", "0.005 mib"):
        _, shown = _plan(write, capsys, tmp_path, SOUND, "--budget", given)
        amounts = re.findall(r"[\d.]+ (\w+)(?= at the end|: init_r)", shown.out)
        assert amounts == ["KiB"] * 2, shown.out
    _, shown = _plan(write, capsys, tmp_path, LORA, "--budget", "1k parameters")
    assert shown.out.startswith("proposal for at most 1,000 parameters: r 8, lora_alpha 16\n")
    assert "trained: 896 numbers" in shown.out
    _, shown = _plan(write, capsys, tmp_path, LORA, "--budget", "9 triplets")
    assert shown.out.startswith("proposal for at most 9 triplets: r 2, lora_alpha 4\n  8 triplets;")


def test_proposal_names_ranks_that_always_fit_and_needs_no_schedule(write, tmp_path, capsys):
    write_model(tmp_path / "model.safetensors", small_llama())
    _, shown = _plan(write, capsys, tmp_path, SOUND, "--budget", "600 parameters")
    assert shown.out.startswith(
        "proposal for at most 600 parameters: init_r 8, target_r 5, lora_alpha 11\n"
        "  580 parameters at the end if every matrix keeps target_r;\n"
        "  the dearest choice of triplets, 628 parameters, does not fit;\n"
        "  init_r 6, target_r 4, lora_alpha 8 always fit;\n"
        "  the scale is 1.375, not 1.333: lora_alpha is a whole number\n"
    )
    unplanned = {name: value for name, value in SOUND.items() if name != "total_step"}
    code, found = _plan(write, capsys, tmp_path, unplanned, "--budget", "600 parameters")
    proposal, _, note = found.out.partition("note: ")
    assert (code, shown.out.startswith(proposal)) == (0, True)
    assert note.startswith("no plan: the configuration has no schedule: total_step is not set")
    assert _plan(write, capsys, tmp_path, unplanned, "--budget", "9MB", "-o", "json")[0] == 2


def test_budget_of_adalora_needs_the_weights(write, capsys):
    assert main(["plan", str(write(SOUND)), "--budget", "65 triplets"]) == 2
    assert "--budget needs the sizes of the modules: add --weights" in capsys.readouterr().err


@pytest.mark.parametrize("amount", ["many", "20 ducks", "3 kg", "2M triplets of cats", "-3"])
def test_budget_that_is_none_exits_2(amount, write, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["plan", str(write(SOUND)), f"--budget={amount}"])
    assert caught.value.code == 2
    assert "expected an amount such as 20MB, 2M, 2000000 parameters" in capsys.readouterr().err
