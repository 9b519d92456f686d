"""Divisions that would train wrongly are refused, with a message that says what to do."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import refused_divisions as divisions
from distributed_checks import refusal
from distributed_runs import adapted, attached
from process_groups import run_processes

ON_TWO = {
    "fsdp1_flat": (divisions.fsdp1_flat, "ParallelismError: forward:", "use FSDP2"),
    "tensor_parallel": (
        partial(divisions.tensor_parallel, adapted),
        "ParallelismError: forward:",
        "tensor parallelism divides layers",
    ),
    "tensor_parallel_attached": (
        partial(divisions.tensor_parallel, attached),
        "ParallelismError: forward:",
        "tensor parallelism divides layers",
    ),
    **{
        each.__name__: (
            each,
            "ParallelismError: attach: the adapter 'default' is divided",
            "attach the model, then divide it",
        )
        for each in (divisions.sharded_before_attach, divisions.partitioned_before_attach)
    },
    "compact_under_ddp_attached": (
        partial(divisions.compact_under, "ddp", attached),
        "ParallelismError: compact:",
        "model = wrapped.module",
    ),
    "compact_under_ddp_injected": (
        partial(divisions.compact_under, "ddp", divisions.injected_blocks),
        "ParallelismError: compact:",
        "model = wrapped.module",
    ),
    "trainer_with_injected_fsdp2": (
        divisions.trainer_with_injected_fsdp2,
        "ParallelismError: AdaLoraCallback:",
        "make the model with get_peft_model",
    ),
    "trainer_with_deepspeed": (
        divisions.trainer_with_deepspeed,
        "ParallelismError: AdaLoraCallback:",
        "DeepSpeed",
    ),
    **{
        each.__name__: (each, f"ParallelismError: get_peft_model: {place} is wrapped or", "divided")
        for each, place in (
            (divisions.adapter_for_ddp, "the model"),
            (divisions.adapter_for_sharded, "first.0"),
            (divisions.adapter_for_repeated, "first.0"),
            (divisions.adapter_for_zero3, "head"),
        )
    },
    "compact_under_ddp": (
        partial(divisions.compact_under, "ddp", adapted),
        "ParallelismError: compact:",
        "model = wrapped.module",
    ),
    "compact_under_fsdp2": (
        partial(divisions.compact_under, "fsdp2", adapted),
        "ParallelismError: compact:",
        "load it before fully_shard",
    ),
    "compact_after_unwrapping": (divisions.compact_after_unwrapping, "no error"),
    "root_left_out": (
        divisions.root_left_out,
        "ParallelismError: update_and_allocate:",
        "the root module too",
    ),
    "only_a_factor": (
        divisions.only_a_factor,
        "ParallelismError: forward:",
        "Shard the layer with its adapter",
    ),
    "penalty_of_a_single_factor": (
        divisions.penalty_of_a_single_factor,
        "ParallelismError: orthogonality_penalty: only one factor of matrix 0",
        "apply fully_shard to the adapted layer",
    ),
    "blocks_on_two_meshes": (
        divisions.blocks_on_two_meshes,
        "ParallelismError: orthogonality_penalty:",
        "shard the whole model over one",
    ),
    "blocks_on_two_meshes_without_a_penalty": (
        partial(divisions.blocks_on_two_meshes, orth_reg_weight=0.0),
        "ParallelismError: update_and_allocate:",
        "shard the whole model over one",
    ),
    "factors_on_every_process": (
        divisions.factors_on_every_process,
        "ParallelismError: update_and_allocate: 'first.0': every process holds all of its factors",
        "shard them with fully_shard, or train with DDP",
    ),
    "factors_cut_by_hand": (
        divisions.factors_cut_by_hand,
        "ParallelismError: update_and_allocate: factor A of matrix 0: expected a factor",
        "got a local part of shape",
    ),
    "gradient_on_every_process": (
        divisions.gradient_on_every_process,
        "ParallelismError: update_and_allocate: a gradient is not divided like its parameter",
        "set_requires_gradient_sync(True)",
    ),
    "state_of_one_process": (
        partial(divisions.state_of_one_process, attached),
        "ParallelismError: save_pretrained:",
        "leave state_dict out",
    ),
    "factors_ignored_and_never_allocated": (
        divisions.factors_ignored_and_never_allocated,
        "ParallelismError: ",
    ),
    "ignored_factors": (
        divisions.ignored_factors,
        "ParallelismError: update_and_allocate: 3 of 9 factors are whole and the rest",
        "apply fully_shard to the root module too",
    ),
}
"""Each attempt with what its refusal holds."""

OF_EITHER = {
    "fsdp1": (
        partial(divisions.fsdp1, use_orig_params=True),
        "ParallelismError: forward:",
        "fsdp_version: 2",
    ),
    "zero2_without_hook": (
        divisions.zero2,
        "ParallelismError: forward:",
        "call allocate_on_step(engine, model)",
    ),
    "zero3": (divisions.zero3, "ParallelismError: forward:", "DeepSpeed ZeRO-3", "use FSDP2"),
    "merge": (
        divisions.merge_under_fsdp2,
        "ParallelismError: merge: the weight of",
        "load the adapter into a whole model",
    ),
    "pruned_file": (
        divisions.pruned_file_for_fsdp2,
        "ParallelismError: load:",
        "load it before fully_shard",
    ),
}
"""Each attempt on a model of our own and on one of PEFT, with what its refusals hold."""


@pytest.mark.parametrize("attempt", ON_TWO)
def test_every_rank_says_what_is_not_supported_and_what_to_do(attempt: str, tmp_path: Path) -> None:
    divide, *parts = ON_TWO[attempt]
    for refused in run_processes(2, refusal, tmp_path, divide):
        for part in parts:
            assert part in refused


@pytest.mark.parametrize("attempt", OF_EITHER)
def test_both_kinds_of_model_say_what_is_not_supported(attempt: str, tmp_path: Path) -> None:
    divide, *parts = OF_EITHER[attempt]
    attempts = [partial(divide, make) for make in (adapted, attached)]
    for said in run_processes(2, divisions.refusals, tmp_path, attempts):
        for refused in said:
            for part in parts:
                assert part in refused


def test_singular_values_cut_across_are_refused(tmp_path: Path) -> None:
    (said,) = run_processes(1, refusal, tmp_path, divisions.singular_values_cut_across)
    assert "let shard_placement_fn return Shard(0)" in said
