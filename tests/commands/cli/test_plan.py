"""Test `adalora plan`: phases in absolute steps, allocations, scale, curve."""

from __future__ import annotations

import json

import pytest

from adalora_core.checker.plan.plan import plan_of
from adalora_core.commands.cli import main
from adalora_core.config.fields.block import Block
from adalora_core.config.rules.base import SOUND


def test_plan_of_a_sound_file_names_phases_allocations_and_scale(write, capsys):
    assert main(["plan", str(write(SOUND))]) == 0
    out = capsys.readouterr().out
    assert "warm-up      0 to  200   201 steps   every matrix has rank 12" in out
    assert "budgeting  201 to  799   599 steps   59 allocations, every 10 steps" in out
    assert "final      800 to  999   200 steps   rank 8 on average, selected at step 800" in out
    assert "lora_alpha / init_r = 16 / 12 = 1.333" in out
    assert "12 |****" in out


def test_plan_of_a_wrong_file_prints_the_report_and_exits_1(write, capsys):
    assert main(["plan", str(write(SOUND | {"deltaT": 0}))]) == 1
    assert "ADA204" in capsys.readouterr().out


@pytest.mark.parametrize(
    "content", [{"name": "none"}, SOUND | {"total_step": None}, SOUND | {"total_step": "auto"}]
)
def test_plan_without_a_schedule_exits_2(write, content, capsys):
    content = content if "name" in content else content | {"inference_mode": True}
    code = main(["plan", str(write(content)), "--runtime", "adalora-core"])
    assert code == 2
    assert "adalora plan: " in capsys.readouterr().err


@pytest.mark.parametrize("method", ["LOHA", "IA3", "VERA"])
def test_another_method_is_not_planned(write, method, capsys):
    file = write({"peft_type": method, "target_modules": ["q_proj"]})
    assert main(["plan", str(file), "--weights", "nowhere"]) == 2
    expected = f"adalora plan: {file}: not planned: {method!r} is neither ADALORA nor LORA\n"
    assert capsys.readouterr() == ("", expected)


def test_plan_of_a_call_needs_all_its_values(write, capsys):
    call = (
        "AdaLoraConfig(target_modules=['q_proj'], init_r=12, target_r=8, tfinal=9, total_step=99)"
    )
    assert main(["plan", str(write(call, "train.py"))]) == 0
    assert "9 steps   rank 8 on average" in capsys.readouterr().out
    assert main(["plan", str(write(call.replace("=99", "=n"), "train.py"))]) == 2
    error = capsys.readouterr().err
    assert "known only when the run starts: total_step; write the number into a con" in error
    assert error.count("\n") == 1


def test_plan_of_a_missing_file_exits_2(capsys, tmp_path):
    path = tmp_path / "none.json"
    assert main(["plan", str(path)]) == 2
    assert capsys.readouterr().err == f"adalora plan: {path}: No such file or directory\n"


def test_plan_of_a_block_in_another_file(write, capsys):
    path = write({"a": {"peft": SOUND}})
    assert main(["plan", str(path)]) == 0
    assert main(["plan", str(path), "--key", "/a/peft"]) == 0
    assert main(["plan", str(path), "--key", "/b"]) == 2
    assert capsys.readouterr().err == f"adalora plan: {path}: no mapping at '/b'\n"


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"tfinal": 0},
        {"tfinal": 0, "deltaT": 7},
        {"tinit": 0, "deltaT": 1},
        {"init_r": 8, "target_r": 8},
        {"tinit": 798, "tfinal": 200},
        {"tinit": 0, "tfinal": 0, "total_step": 1},
    ],
)
def test_curve_kept_at_every_step_is_that_of_the_last_allocation(fields):
    plan = plan_of(Block(SOUND | fields), matrices=5)
    schedule = plan.schedule
    kept = schedule.initial_budget
    for step in range(schedule.total_step):
        if schedule.at(step).allocates:
            kept = schedule.at(step).budget
        assert plan.kept_after(step) == kept, step
    assert sum(phase.length for phase in plan.phases()) == schedule.total_step


def test_json_without_weights_is_the_schedule_alone(write, capsys):
    assert main(["plan", str(write(SOUND)), "-o", "json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["average_rank"] == {"start": 12, "end": 8}
    assert shown["phases"][1] == {"name": "budgeting", "first": 201, "last": 799, "steps": 599}
    assert "budget" not in shown
    assert "weights" not in shown


def test_json_of_a_wrong_configuration_is_the_report(write, capsys):
    assert main(["plan", str(write(SOUND | {"deltaT": 0})), "-o", "json"]) == 1
    (report,) = json.loads(capsys.readouterr().out)["reports"]
    assert report["diagnostics"][0]["code"] == "ADA204"
