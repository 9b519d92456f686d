"""A run of which one process is killed goes on as if nothing had happened."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from distributed_runs import STEPS
from distributed_runs import assert_same as assert_same_trace
from distributed_runs import run as run_whole
from killed_training import Death, PageRun, forked, newest_whole, train_as_the_page_tells
from process_groups import run_processes

PROGRAM = Path(__file__).parents[2] / "examples" / "distributed" / "restart.py"


def assert_same(found: dict[str, Any], expected: dict[str, Any], tolerance: float) -> None:
    for name in ("accuracy", "mask", "ranks", "budgets"):
        assert found[name] == expected[name], name
    for name, parameter in expected["parameters"].items():
        torch.testing.assert_close(found["parameters"][name], parameter, atol=tolerance, rtol=0)


@pytest.mark.parametrize(
    ("strategy", "world"),
    [
        ("fsdp2", 2),
        pytest.param("ddp", 2, marks=pytest.mark.nightly),
        pytest.param("ddp", 3, marks=pytest.mark.nightly),
    ],
)
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


@pytest.mark.parametrize(
    ("strategy", "world"),
    [
        ("ddp", 1),
        pytest.param("fsdp2", 1, marks=pytest.mark.nightly),
        pytest.param("fsdp2", 4, marks=pytest.mark.nightly),
    ],
)
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
    block = PROGRAM.read_text(encoding="utf-8")
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
