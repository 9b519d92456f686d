"""A run of which one process is killed goes on as if nothing had happened."""

from __future__ import annotations

import importlib.util
import random
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from distributed_runs import STEPS
from distributed_runs import assert_same as assert_same_trace
from distributed_runs import run as run_whole
from killed_training import Death, Launch, PageRun, forked, train_as_the_page_tells
from process_groups import run_processes
from restarted_training import newest_whole

PAGE = Path(__file__).parents[2] / "docs" / "scaling.md"
FLAGS = re.MULTILINE | re.DOTALL
ACCURACY_OF_THE_DEMO = 94.1
"""Percent of its held-out words, after all of its steps."""
NOISE = 1.5
"""Two and a half standard deviations of a share of 1,500 words."""


def assert_same(found: dict[str, Any], expected: dict[str, Any], tolerance: float) -> None:
    for name in ("accuracy", "mask", "ranks", "budgets"):
        assert found[name] == expected[name], name
    for name, parameter in expected["parameters"].items():
        torch.testing.assert_close(found["parameters"][name], parameter, atol=tolerance, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize(("strategy", "world"), [("ddp", 2), ("ddp", 3), ("fsdp2", 2)])
def test_a_killed_run_is_the_uninterrupted_one(strategy: str, world: int, tmp_path: Path) -> None:
    options = {"strategy": strategy, "dropout": True}
    expected = forked(world, tmp_path / "whole", **options)
    moments = random.Random(f"{strategy} {world}")  # noqa: S311 - moments, not secrets
    folder = tmp_path / "killed"
    death = Death(moments.randrange(2), f"step {moments.randrange(7, 19)}", moments.random() / 100)
    forked(world, folder, death, **options)
    # The first process syncs its part and the metadata and renames those, the second its part.
    rank, call = moments.choice([(0, 0), (0, 1), (0, 2), (1, 0)])
    forked(world, folder, Death(rank, "save 36", call=call), **options)
    assert newest_whole(folder).name == "step-000030"
    assert (folder / "step-000036").exists()
    assert_same(forked(world, folder, **options), expected, 0.0)


@pytest.mark.slow
@pytest.mark.parametrize(("strategy", "world"), [("ddp", 1), ("fsdp2", 1), ("fsdp2", 4)])
def test_a_killed_run_goes_on_with_other_processes(
    strategy: str, world: int, tmp_path: Path
) -> None:
    options = {"strategy": strategy, "dropout": False}
    expected = forked(2, tmp_path / "whole", **options)
    forked(2, tmp_path / "killed", Death(1, "step 15"), **options)
    assert newest_whole(tmp_path / "killed").name == "step-000012"
    assert_same(forked(world, tmp_path / "killed", **options), expected, 1e-9)


@pytest.mark.parametrize(("kind", "world"), [("ddp", 2), ("fsdp2", 2), ("single", 1)])
def test_the_page_resumes_a_run(kind: str, world: int, tmp_path: Path) -> None:
    (block,) = re.findall(r"^```python\n(# restart.py.*?)^```$", PAGE.read_text(), FLAGS)
    folder = tmp_path / "checkpoints"

    def run(processes: int, kind: str, stop: int) -> list[PageRun]:
        results = tmp_path / str(stop)
        return run_processes(processes, train_as_the_page_tells, results, block, kind, folder, stop)

    stopped = run(2, "fsdp2", 9)
    resumed = run(world, kind, STEPS)
    assert [each.start for each in (*stopped, *resumed)] == [0] * 2 + [9] * world
    for old, new in zip(stopped, resumed, strict=False):
        assert_same_trace(new.trace, run_whole(0, "single", {}), 9)
        assert (new.after_resume == old.after_save) == (world == 2)


# --- the demo, as people launch it ---------------------------------------------------------------

EVERY = 40
IN_A_LOOP = ("--no-dropout", "--every", str(EVERY))
LAUNCHES = {
    "ddp": Launch(
        "accelerate", "restarted_training.py", ("--strategy", "ddp", *IN_A_LOOP), alone="python"
    ),
    "fsdp2": Launch(
        "torchrun", "restarted_training.py", ("--strategy", "fsdp2", *IN_A_LOOP), alone="python"
    ),
    "zero2": Launch("torchrun", "restarted_zero.py", IN_A_LOOP, alone="torchrun alone"),
    "trainer": Launch("accelerate", "restarted_trainer.py", IN_A_LOOP, alone="python"),
    "trainer-fsdp2": Launch(
        "torchrun", "restarted_trainer.py", ("--strategy", "fsdp2", "--every", str(EVERY))
    ),
}


@pytest.mark.nightly
@pytest.mark.parametrize("kind", LAUNCHES)
def test_the_demo_survives_the_kill_of_a_rank(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    launch = LAUNCHES[kind]
    if kind == "zero2":
        launch = launch._replace(python=request.getfixturevalue("python_with_deepspeed"))
    expected = launch.run(tmp_path / "whole")
    sys.stdout.write(f"{kind}: {expected['accuracy']:.1%}\n")
    assert expected["accuracy"] > (ACCURACY_OF_THE_DEMO - NOISE) / 100
    assert expected["budgets"][-1][1] == 144

    folder = tmp_path / "killed"
    moments = random.Random(kind)  # noqa: S311 - moments, not secrets
    step = moments.randrange(EVERY + 1, 2 * EVERY)
    launch.run_and_kill(folder, Death(moments.randrange(2), f"step {step}", moments.random()))
    save = moments.choice([3, 4]) * EVERY
    launch.run_and_kill(folder, Death(moments.randrange(2), f"save {save}", moments.random() / 50))
    shutil.copytree(folder, tmp_path / "alone")

    assert_same(launch.run(folder), expected, 0.0)
    if launch.alone:
        alone = launch._replace(launcher=launch.alone).run(tmp_path / "alone")
        sys.stdout.write(f"{kind}, with one process from step {save} on: {alone['accuracy']:.1%}\n")
        assert alone["budgets"] == expected["budgets"]
        assert alone["mask"] == expected["mask"]
        assert alone["ranks"] == expected["ranks"]
        assert alone["accuracy"] == pytest.approx(expected["accuracy"], abs=NOISE / 100)


@pytest.mark.nightly
@pytest.mark.skipif(not importlib.util.find_spec("ray"), reason="needs ray")
def test_the_demo_survives_the_kill_of_a_worker_of_ray(tmp_path: Path) -> None:
    expected = Launch("python", "restarted_training.py", IN_A_LOOP).run(tmp_path / "single")
    found = Launch("python", "restarted_ray.py", ()).run(tmp_path / "ray")
    for name, each in (("one process", expected), ("two workers of Ray", found)):
        sys.stdout.write(f"{name}: {each['accuracy']:.2%}\n")
    starts = (tmp_path / "ray" / "starts").read_text().split()
    assert starts == ["None", str(tmp_path / "ray" / "step-000080")]
    assert found["world"] == 2
    assert found["budgets"] == expected["budgets"]
    assert found["accuracy"] == pytest.approx(expected["accuracy"], abs=0.01)
