"""What breaks PEFT's adapters on their way through a folder, and does not break ours."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from adalora_runs import LOADERS, TARGET_BUDGET, final_ranks, live_ranks, make, optimizer_of, train
from toy_models import outputs, two_layer


def reload(library: str, folder: Path, **options: Any) -> Any:
    return LOADERS[library].from_pretrained(two_layer(), folder, **options)


def trained(library: str, **changes: Any) -> Any:
    model = make(library, two_layer(), **changes)
    train(model, range(30))
    return model


class TestResume:
    """Stop in the middle of the schedule, load, go on."""

    def stopped_and_resumed(self, library: str, folder: Path) -> Any:
        model = make(library, two_layer())
        train(model, range(15))
        model.save_pretrained(folder)
        resumed = reload(library, folder, is_trainable=True)
        train(resumed, range(15, 30))
        return resumed

    def test_peft_prunes_to_the_wrong_budget(self, tmp_path: Path) -> None:
        assert sum(live_ranks(self.stopped_and_resumed("peft", tmp_path))) < TARGET_BUDGET

    def test_ours_reaches_the_budget_and_the_ranks_of_one_run(
        self, library: str, tmp_path: Path
    ) -> None:
        whole = make(library, two_layer())
        optimizer = optimizer_of(whole)
        train(whole, range(15), optimizer=optimizer)
        whole.save_pretrained(tmp_path)
        state = copy.deepcopy(optimizer.state_dict())
        train(whole, range(15, 30), optimizer=optimizer)
        resumed = reload(library, tmp_path, is_trainable=True)
        again = optimizer_of(resumed)
        again.load_state_dict(state)
        train(resumed, range(15, 30), optimizer=again)
        assert sum(live_ranks(resumed)) == TARGET_BUDGET
        assert final_ranks(resumed) == final_ranks(whole)


class TestSecondGeneration:
    """A loaded adapter is trained again from step 0, saved and loaded."""

    def second(self, library: str, folder: Path) -> Any:
        trained(library, target_r=10).save_pretrained(folder / "first")
        model = reload(library, folder / "first", is_trainable=True)
        # As far as the first allocations; later ones PEFT does not survive either.
        train(model, range(4))
        model.save_pretrained(folder / "second")
        return model

    def test_peft_cannot_load_what_it_saved(self, tmp_path: Path) -> None:
        self.second("peft", tmp_path)
        with pytest.raises(IndexError):
            reload("peft", tmp_path / "second")

    def test_ours_loads_with_the_same_outputs(self, library: str, tmp_path: Path) -> None:
        model = self.second(library, tmp_path)
        expected = outputs(model)
        assert torch.equal(outputs(reload(library, tmp_path / "second")), expected)
        theirs = outputs(reload("peft", tmp_path / "second"))
        torch.testing.assert_close(theirs, expected, atol=1e-6, rtol=1e-5)


class TestNoFinalPhase:
    """`tfinal = 0`: no 0-based step reaches the step at which the last mask is forced."""

    SETTINGS = {"tfinal": 0, "tinit": 0, "deltaT": 11}  # noqa: RUF012 - never changed

    def test_peft_ends_above_the_budget(self) -> None:
        model = trained("peft", **self.SETTINGS)
        assert sum(live_ranks(model)) > TARGET_BUDGET

    def test_ours_ends_at_the_budget_after_finalize(self, library: str) -> None:
        model = trained(library, **self.SETTINGS)
        model.finalize()
        assert sum(live_ranks(model)) == sum(final_ranks(model)) == TARGET_BUDGET


class TestAdapterNameInsideAModuleName:
    """An adapter that is called like a part of a module's path."""

    NAME = "second"

    def test_peft_cannot_load_it_under_that_name(self, tmp_path: Path) -> None:
        trained("peft").save_pretrained(tmp_path)
        with pytest.raises((AttributeError, KeyError)):
            reload("peft", tmp_path, adapter_name=self.NAME)

    def test_ours_loads_it(self, library: str, tmp_path: Path) -> None:
        model = trained(library)
        model.save_pretrained(tmp_path)
        # Models of our own have one adapter, of one name.
        options = {} if library == "adalora_core" else {"adapter_name": self.NAME}
        loaded = reload(library, tmp_path, **options)
        torch.testing.assert_close(outputs(loaded), outputs(model))


class TestLowMemoryLoadOfAPrunedAdapter:
    """`low_cpu_mem_usage=True` and a rank pattern."""

    def test_peft_fails(self, tmp_path: Path) -> None:
        trained("peft").save_pretrained(tmp_path)
        with pytest.raises((NotImplementedError, RuntimeError), match="meta"):
            outputs(reload("peft", tmp_path, low_cpu_mem_usage=True))

    def test_ours_loads(self, library: str, tmp_path: Path) -> None:
        model = trained(library)
        model.save_pretrained(tmp_path)
        options = {} if library == "adalora_core" else {"low_cpu_mem_usage": True}
        loaded = reload(library, tmp_path, **options)
        torch.testing.assert_close(outputs(loaded), outputs(model))
