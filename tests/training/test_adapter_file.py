"""Adapters on disk: PEFT's format both ways, and files that must be refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from adalora_runs import TARGET_BUDGET, final_ranks, make, train, weaken_second
from safetensors.torch import load_file
from toy_models import outputs, two_layer

from adalora_core import AdaLoraModel
from adalora_core.config.fields.table import as_written
from adalora_core.floor.errors import CheckpointError, RunWarning

TENSORS = "adapter_model.safetensors"


def trained(library: str, **changes: Any) -> Any:
    model = make(library, two_layer(), **changes)
    train(model, range(30))
    return model.eval()


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    trained("adalora_core").save_pretrained(tmp_path)
    return tmp_path


class TestExchangeWithPeft:
    @pytest.mark.parametrize("writer", ["peft", "adalora_core"])
    def test_a_module_at_rank_zero_loads_on_both_sides(self, writer: str, tmp_path: Path) -> None:
        model = make(writer, two_layer(), init_r=4, target_r=1)
        train(model, range(30), before_step=weaken_second)
        assert 0 in final_ranks(model)
        model.eval().save_pretrained(tmp_path)
        theirs = peft.PeftModel.from_pretrained(two_layer(), tmp_path).eval()
        ours = AdaLoraModel.from_pretrained(two_layer(), tmp_path)
        torch.testing.assert_close(outputs(ours), outputs(model), atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(outputs(theirs), outputs(model), atol=1e-6, rtol=1e-6)

    def test_names_and_shapes_of_the_tensors_are_those_of_peft(self, tmp_path: Path) -> None:
        for library in ("peft", "adalora_core"):
            make(library).save_pretrained(tmp_path / library)
        theirs, ours = (load_file(tmp_path / each / TENSORS) for each in ("peft", "adalora_core"))
        assert {name: each.shape for name, each in ours.items()} == {
            name: each.shape for name, each in theirs.items()
        }

    def test_keys_of_the_configuration_are_those_of_peft(self, tmp_path: Path) -> None:
        written = []
        for library in ("peft", "adalora_core"):
            make(library).save_pretrained(tmp_path / library)
            written.append(json.loads((tmp_path / library / "adapter_config.json").read_text()))
        theirs, ours = written
        assert list(ours) == list(as_written(theirs))
        same = set(ours) - {"peft_version", "target_modules"}
        assert {key: ours[key] for key in same} == {key: theirs[key] for key in same}
        assert ours["target_modules"] == sorted(theirs["target_modules"])

    def test_saving_leaves_the_live_configuration_alone(self, tmp_path: Path) -> None:
        model = trained("adalora_core")
        before = model.peft_config["default"].to_json_dict()
        model.save_pretrained(tmp_path)
        assert model.peft_config["default"].to_json_dict() == before

    def test_going_on_from_pruned_files_keeps_the_budget(self, tmp_path: Path) -> None:
        model = make("peft", two_layer())
        train(model, range(15))
        model.save_pretrained(tmp_path)
        resumed = AdaLoraModel.from_pretrained(two_layer(), tmp_path, is_trainable=True)
        with pytest.warns(RunWarning, match="ADA809"):  # PEFT keeps no training state
            train(resumed, range(15, 30))
        assert sum(final_ranks(resumed)) == TARGET_BUDGET


def test_a_path_that_is_not_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for name, message in (("nowhere", "not there"), ("file", "is a file")):
        with pytest.raises(CheckpointError, match=message):
            AdaLoraModel.from_pretrained(two_layer(), tmp_path / name)


class TestLegacyWeights:
    def test_a_pickle_that_runs_code_is_refused(self, saved: Path, tmp_path: Path) -> None:
        marker = tmp_path / "ran"

        class Payload:
            def __reduce__(self) -> Any:
                return (marker.touch, ())

        torch.save({"x": Payload()}, saved / "adapter_model.bin")
        (saved / TENSORS).unlink()
        with pytest.raises(CheckpointError, match="cannot be read as weights"):
            AdaLoraModel.from_pretrained(two_layer(), saved)
        assert not marker.exists()


class TestWriting:
    def test_a_file_in_the_place_of_the_folder_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("x")
        with pytest.raises(ValueError, match="is a file"):
            make("adalora_core").save_pretrained(tmp_path / "file")
