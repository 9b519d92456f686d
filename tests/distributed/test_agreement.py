"""Raise an error on every rank where processes would come apart."""

from __future__ import annotations

import copy
import pickle
import threading
from functools import partial
from pathlib import Path
from typing import Any

import apart
import pytest
from distributed_checks import refusal
from distributed_runs import adapted, assert_same
from process_groups import run_processes

from adalora_core.trainers.distributed import allocate_within

slow = pytest.mark.slow

UNSYNCHRONISED = {
    "unfrozen": (partial(apart.unfrozen, "adalora_core"), "9 trained parameters, the first one"),
    "unfrozen_attached": (partial(apart.unfrozen, "attached"), "9 trained parameters"),
    "a factor by hand": (apart.a_factor_by_hand, "1 trained parameters, the first one first.0"),
    "a bias by hand": (apart.a_bias_by_hand, "the first one head.base_layer.bias"),
}
"""What learns after DDP was made, with what the refusal names."""


@slow
@pytest.mark.parametrize("name", UNSYNCHRONISED)
def test_what_ddp_does_not_synchronise_is_refused_at_the_first_forward(
    name: str, tmp_path: Path
) -> None:
    attempt, named = UNSYNCHRONISED[name]
    for said in run_processes(2, refusal, tmp_path, attempt):
        assert said.startswith("ParallelismError: forward: DistributedDataParallel does not")
        assert named in said
        assert "wrap it again (model = wrapped.module; del wrapped)" in said


@slow
def test_fully_shard_synchronises_what_learns_later(tmp_path: Path) -> None:
    expected = apart.train_later(0, "single")
    assert len(set(expected.budgets)) > 5
    for found in run_processes(2, apart.train_later, tmp_path, "fsdp2"):
        assert_same(found, expected)


@slow
def test_training_inside_join_is_refused(tmp_path: Path) -> None:
    for said in run_processes(2, refusal, tmp_path, apart.joined):
        assert "ParallelismError: forward: the model is trained inside join()" in said
        assert "equally many batches" in said


DIFFERENCES = {
    "step": (apart.another_step, "step of the call (1, elsewhere 0)"),
    "schedule": (apart.another_schedule, "tinit of adapter 'default' (3, elsewhere 2)"),
    "assigned schedule": (apart.another_assigned_schedule, "tinit of adapter 'default' (3"),
    "seed": (apart.another_seed, "factors of adapter 'default' (checksum"),
    "gradient": (apart.another_gradient, "gradients of adapter 'default' (checksum"),
    "gradient_attached": (
        partial(apart.another_gradient, library="attached"),
        "gradients of adapter 'default' (checksum",
    ),
    "gradient later": (apart.another_gradient_later, "averages of adapter 'default' (checksum"),
    "loaded kept set": (
        partial(apart.another_checkpoint, what="kept set"),
        "kept set of adapter 'default' (",
        " triplets, checksum",
    ),
    "loaded averages": (
        partial(apart.another_checkpoint, what="averages"),
        "averages of adapter 'default' (checksum",
    ),
    "loaded step": (
        partial(apart.another_checkpoint, what="step"),
        "step of adapter 'default' (8, elsewhere 9)",
    ),
    "loaded alone": (apart.loaded_alone, "averages of adapter 'default' (checksum"),
    "frozen alone": (apart.frozen_alone, "gradients of adapter 'default' (checksum"),
    "pipeline stages": (
        partial(apart.pipeline_stages, in_groups=False),
        "modules of adapter 'default' (1 from '0' with A [6, 7] and B [3, 6]",
        "Pipeline stages on different processes would each keep a budget of their own",
        "allocate_within(model, group)",
    ),
}
"""What makes rank 1 differ, with what the refusal says."""


@slow
@pytest.mark.parametrize("name", DIFFERENCES)
def test_what_differs_is_named_on_every_rank_before_anything_is_changed(
    name: str, tmp_path: Path
) -> None:
    differ, *parts = DIFFERENCES[name]
    for said in run_processes(2, apart.refused, tmp_path, differ):
        assert said.startswith("RankDisagreementError: update_and_allocate: these of 2 ranks")
        assert "rank 1: " in said
        for part in parts:
            assert part in said


@slow
def test_pipeline_stages_in_groups_of_their_own_keep_a_budget_each(tmp_path: Path) -> None:
    stages = partial(apart.pipeline_stages, in_groups=True)
    found = run_processes(2, stages, tmp_path)
    assert [each.budgets[-1] for each in found] == [3, 3]
    for stage, expected in zip(found, apart.both_stages(), strict=True):
        assert_same(stage, expected)


@slow
def test_a_rank_that_does_not_call_is_waited_for_and_reported(tmp_path: Path) -> None:
    first, _ = run_processes(2, apart.only_on_the_first, tmp_path / "results", tmp_path)
    assert "RankDisagreementError: update_and_allocate: expected a call on all 2 ranks" in first
    assert "got none on some within 2 s" in first
    assert "allocate_within(model, group)" in first


@slow
def test_a_loaded_state_moves_no_comparison(tmp_path: Path) -> None:
    for counts in run_processes(2, apart.collectives_of_changes, tmp_path):
        assert counts == {
            "at first": [1, 1, 0, 1, 1, 0, 0, 1],  # the fifth call is the first allocation
            "before loading": [0] * 7,
            "after loading": [1, 0],
        }


def test_a_copy_of_a_model_stays_in_the_group(library: str) -> None:
    model = adapted(library=library)
    group: Any = threading.Lock()  # no copies either
    allocate_within(model, group)
    assert copy.deepcopy(model).base_model.training_run.agreement.group is group
    assert pickle.loads(pickle.dumps(model.base_model.training_run.agreement)).group is None  # noqa: S301
