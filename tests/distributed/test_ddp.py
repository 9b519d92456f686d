"""DDP with checkpointing, unused layers and its options; torch.compile with and without it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from distributed_runs import Trace, assert_same, run
from process_groups import run_processes
from run_cases import run_checkpointed, run_compiled, run_leaving_one_out, run_with_options


def named_as_plain(trace: Trace) -> Trace:
    trace.parameters = {
        name.replace(".blocks", ""): each for name, each in trace.parameters.items()
    }
    return trace


@pytest.mark.parametrize(
    ("reentrant", "options"),
    [
        pytest.param(False, {}, id="non-reentrant"),
        pytest.param(False, {"static_graph": True}, id="non-reentrant-static"),
        pytest.param(True, {"static_graph": True}, id="reentrant-static"),
    ],
)
def test_checkpointing_changes_nothing(
    reentrant: bool, options: dict[str, Any], tmp_path: Path
) -> None:
    expected = run(0, "single", {})
    for found in run_processes(2, run_checkpointed, tmp_path, reentrant, options):
        assert not isinstance(found, str), found
        assert_same(named_as_plain(found), expected)


def test_reentrant_checkpointing_without_a_static_graph_is_refused_by_ddp(tmp_path: Path) -> None:
    for said in run_processes(2, run_checkpointed, tmp_path, True, {}):
        assert "_set_static_graph()" in said


@pytest.mark.parametrize("options", [{"find_unused_parameters": True}, {"static_graph": True}])
def test_a_layer_that_is_not_used_is_allocated_as_in_one_process(
    options: dict[str, Any], tmp_path: Path
) -> None:
    expected = run_leaving_one_out(0, "single", {})
    for found in run_processes(2, run_leaving_one_out, tmp_path, "ddp", options):
        assert_same(named_as_plain(found), named_as_plain(expected))


@pytest.mark.parametrize("options", [{"gradient_as_bucket_view": True}, {"bucket_cap_mb": 0.0001}])
def test_how_ddp_lays_out_gradients_does_not_matter(
    options: dict[str, Any], tmp_path: Path
) -> None:
    expected = run(0, "single", {})
    for found in run_processes(2, run_with_options, tmp_path, options):
        assert_same(found, expected)


class TestCompiled:
    def test_the_step_is_one_graph_and_is_compiled_once(self) -> None:
        found, first, last = run_compiled(0, "single")
        assert first == last == 1
        assert_same(found, run(0, "single", {}))

    @pytest.mark.slow
    def test_with_ddp_nothing_is_compiled_after_the_first_step(self, tmp_path: Path) -> None:
        expected = run(0, "single", {})
        for found, first, last in run_processes(2, run_compiled, tmp_path, "ddp"):
            assert first == last > 0
            assert_same(found, expected)
