"""Divisions that would train wrongly are refused, with a message that says what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import refused_divisions as divisions
from distributed_checks import refusal
from process_groups import run_processes

if TYPE_CHECKING:
    from pathlib import Path

ON_TWO = {
    divisions.fsdp1_flat: ("ParallelismError: forward:", "use FSDP2"),
    divisions.fsdp1_original: ("ParallelismError: update_and_allocate:", "use FSDP2"),
    divisions.tensor_parallel: (
        "ParallelismError: forward:",
        "remove them from the parallelize plan",
    ),
    divisions.zero3: ("ParallelismError: forward:", "DeepSpeed ZeRO-3", "use FSDP2"),
    divisions.fsdp1_attached: ("ParallelismError: update_and_allocate:", "use FSDP2"),
    divisions.tensor_parallel_attached: (
        "ParallelismError: forward:",
        "remove them from the parallelize plan",
    ),
    divisions.zero3_attached: ("ParallelismError: forward:", "DeepSpeed ZeRO-3", "use FSDP2"),
    divisions.compact_under_ddp_attached: ("ParallelismError: compact:", "model = wrapped.module"),
    divisions.trainer_with_fsdp: ("ParallelismError: AdaLoraCallback:", "train with DDP"),
    divisions.trainer_with_deepspeed: ("ParallelismError: AdaLoraCallback:", "DeepSpeed"),
    divisions.adapter_for_ddp: ("ParallelismError: get_peft_model:", "add the adapter first"),
    divisions.adapter_for_sharded: ("ParallelismError: get_peft_model:", "then call fully_shard"),
    divisions.adapter_for_zero3: ("ParallelismError: get_peft_model:", "DeepSpeed ZeRO-3"),
    divisions.compact_under_ddp: ("ParallelismError: compact:", "model = wrapped.module"),
    divisions.compact_under_fsdp2: ("ParallelismError: compact:", "load it before fully_shard"),
    divisions.compact_after_unwrapping: ("no error",),
    divisions.root_left_out: ("ParallelismError: update_and_allocate:", "the root module too"),
    divisions.only_a_factor: ("ParallelismError: forward:", "shard the layer with its adapter"),
    divisions.penalty_of_a_single_factor: (
        "ParallelismError: orthogonality_penalty: only one factor of matrix 0",
        "apply fully_shard to the adapted layer",
    ),
    divisions.blocks_on_two_meshes: (
        "ParallelismError: orthogonality_penalty:",
        "shard the whole model over one",
    ),
    divisions.blocks_on_two_meshes_without_a_penalty: (
        "ParallelismError: update_and_allocate:",
        "shard the whole model over one",
    ),
    divisions.factors_on_every_process: (
        "ParallelismError: update_and_allocate: factor A of matrix 0: expected a factor",
        "got placements (Replicate(),)",
        "shard them with fully_shard, or train with DDP",
    ),
    divisions.factors_cut_by_hand: (
        "ParallelismError: update_and_allocate: factor A of matrix 0: expected a factor",
        "got a local part of shape",
    ),
    divisions.gradient_on_every_process: (
        "ParallelismError: update_and_allocate: a gradient is not divided like its parameter",
        "set_requires_gradient_sync(True)",
    ),
    divisions.merge_under_fsdp2: ("TypeError: merge:",),
}


@pytest.mark.parametrize("attempt", ON_TWO, ids=lambda attempt: attempt.__name__)
def test_every_rank_says_what_is_not_supported_and_what_to_do(attempt: Any, tmp_path: Path) -> None:
    for said in run_processes(2, refusal, tmp_path, attempt):
        for part in ON_TWO[attempt]:
            assert part in said


def test_singular_values_cut_across_are_refused(tmp_path: Path) -> None:
    (said,) = run_processes(1, refusal, tmp_path, divisions.singular_values_cut_across)
    assert "let shard_placement_fn return Shard(0)" in said
