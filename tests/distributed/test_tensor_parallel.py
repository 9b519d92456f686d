"""A model that tensor parallelism divides trains as the whole model does on one process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import tensor_parallel_runs as runs
import torch
from peft import PeftModel
from process_groups import run_processes

from adalora_core import AdaLoraModel

if TYPE_CHECKING:
    from pathlib import Path

    from distributed_runs import Trace

pytestmark = pytest.mark.slow
EXACT: dict[str, Any] = {"atol": 1e-9, "rtol": 0}


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("llama")
    runs.save_llama(folder)
    return folder


def assert_equal(found: Trace, expected: Trace, start: int = 0) -> None:
    assert found.masks == expected.masks[start:]
    assert found.parameters.keys() == expected.parameters.keys()
    torch.testing.assert_close(found.losses, expected.losses[start:], **EXACT)
    torch.testing.assert_close(found.parameters, expected.parameters, **EXACT)
    torch.testing.assert_close(found.outputs, expected.outputs, **EXACT)


@pytest.mark.parametrize(
    "changes",
    [{}, {"orth_reg_weight": 0.0}, {"init_lora_weights": "lora"}],
    ids=["penalty", "no-penalty", "like-lora"],
)
def test_two_processes_train_as_one(llama: Path, changes: dict[str, Any], tmp_path: Path) -> None:
    expected = runs.run_llama(0, llama, changes)
    assert len(set(expected.budgets)) > 5
    for found in run_processes(2, runs.run_llama, tmp_path, llama, changes):
        assert_equal(found, expected)


def test_layers_that_torch_divides_train_as_one(tmp_path: Path) -> None:
    expected = runs.run_pair(0, 30)
    assert len(set(expected.budgets)) > 5
    for found in run_processes(2, runs.run_pair, tmp_path, 30):
        assert_equal(found, expected)


def test_layers_with_whole_inputs_and_outputs_train_as_one(tmp_path: Path) -> None:
    expected = runs.run_pair(0, 30, runs.adapted_gathering_pair)
    for found in run_processes(2, runs.run_pair, tmp_path, 30, runs.adapted_gathering_pair):
        assert_equal(found, expected)


def test_what_two_processes_save_any_number_reads(llama: Path, tmp_path: Path) -> None:
    expected = runs.run_llama(0, llama, {})
    work = tmp_path / "work"
    for found in run_processes(2, runs.save_half, tmp_path / "save", llama, work):
        assert_equal(found, expected, runs.HALF)
    for found in run_processes(2, runs.resume_from_adapter, tmp_path / "adapter", llama, work):
        assert_equal(found, expected, runs.HALF)
    for found in run_processes(1, runs.resume_from_state, tmp_path / "one", llama, work):
        assert_equal(found, expected, runs.HALF)
    for load, name in ((AdaLoraModel, "end"), (PeftModel, "lora")):
        model = load.from_pretrained(runs.load_llama(llama), work / name).double().eval()
        with torch.no_grad():
            logits = model(input_ids=runs.tokens(99)).logits
        torch.testing.assert_close(logits, expected.outputs, **EXACT)


WHAT_IS_SAID = {
    "dropout": ("get_peft_model: ", "lora_dropout 0.1", "set it to 0"),
    "bias": ("get_peft_model: ", "bias 'lora_only'", "set it to 'none'"),
    "whole module": ("get_peft_model: ", "trains the module 'head' whole", "leave it out"),
    "packed": ("get_peft_model: ", "'first.0' has the style 'packed_colwise'", "exclude_modules"),
    "layers of PEFT": ("forward: ", "'first.0'", "call adalora_core.get_peft_model then"),
    "plain parts": ("get_peft_model: ", "'first.0'", "update transformers to 5.17"),
    "two meshes": ("get_peft_model: ", "'first.0' over", "'second.0' over"),
    "sharded anew": ("forward: ", "'first.0'", "do not call fully_shard"),
    "gathered output": ("forward: ", "'first.0'", "Tensor [8, 8]", "default layouts"),
    "DTensor output": ("forward: ", "'first.0'", "DTensor [8, 8]", "default layouts"),
    "Trainer": ("AdaLoraCallback: ", "tensor parallelism", "custom loop"),
    "merge": ("merge: ", "first.0", "merge it there"),
}


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    return run_processes(2, runs.refusals, tmp_path_factory.mktemp("refusals"))


@pytest.mark.parametrize("attempt", WHAT_IS_SAID)
def test_every_process_refuses_and_names_the_layer(
    refused: list[dict[str, str]], attempt: str
) -> None:
    for of_rank in refused:
        assert of_rank[attempt].startswith("ParallelismError: ")
        for part in WHAT_IS_SAID[attempt]:
            assert part in of_rank[attempt]
