"""Each row of the table of docs/scaling.md has tests.

A supported row equals one process in float64, in the kept ranks at every step and in the parameters
to 1e-9. A refused one raises an error on all ranks, at the first forward pass or earlier.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest
from programs import run

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "scaling.md"
HEAD = "| how | state |\n|---|---|\n"

EQUAL = "test_equal_runs.py::test_every_process_goes_the_way_of_the_single_one"
BRIDGED = "test_bridged.py::test_every_process_goes_the_way_of_the_single_one"
LAUNCHED = "test_launchers.py::test_two_processes_are_one_with_the_same_global_batch"
ELSEWHERE = "test_launchers.py::test_trainer_resumes_with_another_number_of_processes"
BEST = "test_launchers.py::test_the_best_checkpoint_is_loaded_under_fsdp2"
REFUSED = "test_refusals.py::test_every_rank_says_what_is_not_supported_and_what_to_do"
EITHER = "test_refusals.py::test_both_kinds_of_model_say_what_is_not_supported"
ZERO = "test_deepspeed.py::test_two_processes_are_one"
"""In float32 to 1e-4: DeepSpeed keeps no other copy of the factors."""
KILLED = "test_killed_runs.py::test_the_demo_survives_the_kill_of_a_rank"
AGAIN = "test_scaling_page.py::test_a_killed_process_is_started_again_and_changes_nothing"
UNSYNCHRONISED = (
    "test_agreement.py::test_what_ddp_does_not_synchronise_is_refused_at_the_first_forward"
)
APART = "test_agreement.py::test_what_differs_is_named_on_every_rank_before_anything_is_changed"


def of(test: str, *parameters: str) -> list[str]:
    """Return the ids of a test with its parameters."""
    return [f"{test}[{each}]" for each in parameters]


ROWS = {
    "DDP": [
        *of(EQUAL, "ddp-2-penalty", "ddp-2-no-penalty"),
        *of(BRIDGED, "ddp-2-", "ddp-2-like-lora"),
    ],
    "FSDP2 (`fully_shard`), HSDP": [
        *of(EQUAL, "fsdp2-2-penalty", "fsdp2-4-penalty", "hsdp-4-penalty"),
        *of(BRIDGED, "fsdp2-2-", "hsdp-4-"),
    ],
    "`torch.compile`": [
        "test_ddp.py::TestCompiled::test_the_step_is_one_graph_and_is_compiled_once"
    ],
    "`torch.compile` with DDP": [
        "test_ddp.py::TestCompiled::test_with_ddp_nothing_is_compiled_after_the_first_step"
    ],
    "accelerate with FSDP2 (`fsdp_version: 2`)": of(
        LAUNCHED, "accelerate-fsdp2_accelerate-adalora_core", "torchrun-fsdp2_accelerate-attached"
    ),
    "FSDP1 (`FullyShardedDataParallel`)": [*of(REFUSED, "fsdp1_flat"), *of(EITHER, "fsdp1")],
    "factors in `ignored_params` of `fully_shard`": of(REFUSED, "ignored_factors"),
    'tensor parallelism, by `tp_plan="auto"` of transformers or `parallelize_module`': of(
        REFUSED, "tensor_parallel", "tensor_parallel_attached", "adapter_for_repeated"
    ),
    "DeepSpeed ZeRO-1 and ZeRO-2, in a loop or under Trainer": [
        *of(ZERO, "with_zero1", "with_loop", "with_trainer"),
        *of(KILLED, "zero2"),
    ],
    "the same without the hook": [
        *of(EITHER, "zero2_without_hook"),
        "test_deepspeed.py::test_a_loop_that_ignores_the_division_is_refused",
    ],
    "DeepSpeed ZeRO-3": [*of(EITHER, "zero3"), *of(REFUSED, "adapter_for_zero3")],
    "torchrun's elastic restarts (`--max-restarts`)": of(AGAIN, "restart.py-checkpoints"),
    "Ray Train's `TorchTrainer`": [
        *of(AGAIN, "by_ray.py-ray"),
        "test_killed_runs.py::test_the_demo_survives_the_kill_of_a_worker_of_ray",
    ],
    "Slurm": of(AGAIN, "job.slurm-checkpoints"),
    "transformers' Trainer with DDP": [
        *of(LAUNCHED, "torchrun-with_trainer-attached"),
        *of(ELSEWHERE, "trainer-attached-1-2", "trainer-attached-2-1"),
    ],
    "transformers' Trainer with FSDP2": [
        *of(LAUNCHED, "torchrun-fsdp2_trainer-attached"),
        *of(LAUNCHED, "accelerate-fsdp2_trainer_sharded_files-attached"),
        *of(ELSEWHERE, "fsdp2_trainer-attached-2-4"),
        *of(BEST, "10-FULL", "24-SHARDED"),
        *of(KILLED, "trainer-fsdp2"),
        *of(REFUSED, "trainer_with_injected_fsdp2"),
    ],
    "transformers' Trainer with FSDP1, or with DeepSpeed without ZeRO-1 or ZeRO-2": of(
        REFUSED, "trainer_with_fsdp1", "trainer_with_deepspeed"
    ),
    "loading into the adapter of a divided model": [
        *of(
            "test_checkpoints.py::test_an_adapter_is_loaded_into_a_divided_model",
            *("ours", "ours-and-more", "attached"),
        ),
        *of(EITHER, "pruned_file"),
    ],
    "merging in a divided model": of(EITHER, "merge"),
    "`compact` of a model in DDP": of(
        REFUSED, "compact_under_ddp", "compact_under_ddp_attached", "compact_after_unwrapping"
    ),
    "`compact` of a divided model": [
        *of(REFUSED, "compact_under_fsdp2"),
        "test_checkpoints.py::test_a_divided_model_is_compacted_as_its_refusal_tells",
    ],
    "adding an adapter to a divided model": of(
        REFUSED, "adapter_for_sharded", "adapter_for_repeated", "adapter_for_ddp"
    ),
    "training in DDP what was unfrozen after wrapping": of(
        UNSYNCHRONISED, "unfrozen", "unfrozen_attached"
    ),
    "unfreezing the adapter after `fully_shard`": [
        "test_agreement.py::test_fully_shard_synchronises_what_learns_later"
    ],
    "`join()` of DDP, for uneven batches": [
        "test_agreement.py::test_training_inside_join_is_refused"
    ],
    "processes that differ in step, schedule, kept set, averages or gradients": of(
        APART, "step", "schedule", "loaded kept set", "loaded averages", "gradient"
    ),
    "pipeline stages on different processes": [
        *of(APART, "pipeline stages"),
        "test_agreement.py::test_pipeline_stages_in_groups_of_their_own_keep_a_budget_each",
    ],
}


def test_each_row_of_the_page_has_tests_that_exist() -> None:
    _, _, rest = PAGE.read_text(encoding="utf-8").partition(HEAD)
    table, _, _ = rest.partition("\n\n")
    rows = [line.split(" | ")[0].removeprefix("| ") for line in table.split("\n")]
    assert rows == [*ROWS]
    assert all(ROWS.values())
    for name in {each.partition("[")[0] for tests in ROWS.values() for each in tests}:
        file, *inner = name.split("::")
        tree: ast.AST = ast.parse((HERE / file).read_text(encoding="utf-8"))
        for each in inner:
            named = [
                node for node in ast.iter_child_nodes(tree) if getattr(node, "name", 0) == each
            ]
            assert named, f"{file} has no {each}"
            tree = named[0]


@pytest.mark.slow
def test_these_tests_have_these_parameters() -> None:
    names = {f"{HERE / each}" for tests in ROWS.values() for each in tests}
    arguments = ("--collect-only", "-q", "-m", "", "-p", "no:cacheprovider")
    done = run(sys.executable, "-m", "pytest", *arguments, *sorted(names))
    assert done.returncode == 0, done.stdout[-4000:]
