"""Criteria in a run: states name them, a resumed run keeps them, another one is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from adalora_runs import allocator_of, end_step, load_again
from torch import nn

from adalora_core import AdaLoraConfig, AdaLoraModel, get_peft_model
from adalora_core.bridge import attach, to_peft_config
from adalora_core.floor.adapter_spec import CRITERIA
from adalora_core.floor.errors import CheckpointError, RunError
from adalora_core.trainers.distributed import AdapterState

STEPS = 20
HALF = 9


def energy(path: str, tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Score a triplet by the Frobenius norm of its update of the weight."""
    del path
    A, E, B = (tensors[f"lora_{factor}"] for factor in "AEB")
    return E.abs().flatten() * A.norm(dim=1) * B.norm(dim=0)


ALL = [*CRITERIA, energy]


def base() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 5), nn.Tanh(), nn.Linear(5, 3))


def config(criterion: Any, **changes: Any) -> AdaLoraConfig:
    fields = {"init_r": 4, "target_r": 2, "tinit": 2, "tfinal": 4, "total_step": STEPS}
    fields["orth_reg_weight"] = 0  # the loss of these models is not the wrapper's
    return AdaLoraConfig(
        target_modules=["0", "2", "4"], importance_criterion=criterion, **fields | changes
    )


def adapted(criterion: Any, **changes: Any) -> Any:
    return get_peft_model(base(), config(criterion, **changes))


def train(model: Any, steps: range) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)  # no state of its own
    for step in steps:
        x = torch.randn(5, 6, generator=torch.Generator().manual_seed(step))
        model(x).square().sum().backward()
        end_step(model, optimizer, step)


def assert_equal_runs(one: Any, other: Any) -> None:
    assert allocator_of(one).rank_history() == allocator_of(other).rank_history()
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.fixture(params=ALL, ids=[*CRITERIA, "callable"])
def criterion(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_a_resumed_run_equals_the_uninterrupted_one(criterion: Any, tmp_path: Path) -> None:
    model = adapted(criterion)
    train(model, range(HALF))
    model.save_pretrained(tmp_path, save_training_state=True)
    train(model, range(HALF, STEPS))
    given = AdaLoraConfig.from_pretrained(tmp_path) if callable(criterion) else None
    if given is not None:
        given.importance_criterion = criterion
    resumed = AdaLoraModel.from_pretrained(base(), tmp_path, is_trainable=True, config=given)
    assert resumed.peft_config["default"].importance_criterion == criterion
    train(resumed, range(HALF, STEPS))
    assert_equal_runs(resumed, model)
    assert allocator_of(model).budget == 6


@pytest.mark.parametrize("is_distributed", [False, True])
def test_a_model_made_anew_takes_the_state_too(
    criterion: Any, is_distributed: bool, tmp_path: Path
) -> None:
    model = adapted(criterion)
    train(model, range(HALF))
    model.save_pretrained(tmp_path, save_training_state=True)
    state = AdapterState(model).state_dict()
    train(model, range(HALF, STEPS))
    resumed = adapted(criterion)
    if is_distributed:
        AdapterState(resumed).load_state_dict(state)
    else:
        load_again(resumed, tmp_path)
    train(resumed, range(HALF, STEPS))
    assert_equal_runs(resumed, model)


@pytest.mark.parametrize("other", ["sensitivity", "snr"])
def test_another_criterion_is_refused_and_nothing_is_changed(other: str, tmp_path: Path) -> None:
    saved = {"sensitivity": "snr", "snr": "sensitivity"}[other]
    model = adapted(saved)
    train(model, range(HALF))
    model.save_pretrained(tmp_path, save_training_state=True)
    state = AdapterState(model).state_dict()
    resumed = adapted(other)
    before = [each.clone() for each in resumed.parameters()]
    phrase = f"saved with the importance_criterion '{saved}', and the adapter 'default' has"
    for load in (
        partial(load_again, resumed, tmp_path),
        partial(AdapterState(resumed).load_state_dict, state),
        partial(
            AdaLoraModel.from_pretrained, base(), tmp_path, is_trainable=True, config=config(other)
        ),
    ):
        with pytest.raises(CheckpointError, match=f"{phrase} '{other}'.*that has '{saved}' as"):
            load()
    for now, then in zip(resumed.parameters(), before, strict=True):
        assert torch.equal(now, then)


def test_a_saved_callable_has_to_be_given_again(tmp_path: Path) -> None:
    model = adapted(energy)
    train(model, range(HALF))
    model.save_pretrained(tmp_path, save_training_state=True)
    with pytest.raises(CheckpointError, match=r"criteria\.energy'.*that has the same function"):
        AdaLoraModel.from_pretrained(base(), tmp_path, is_trainable=True)
    # Without training on, nothing needs the function.
    AdaLoraModel.from_pretrained(base(), tmp_path)


def local(sign: int) -> Any:
    return lambda _, tensors: sign * tensors["lora_E"].flatten()


@pytest.mark.parametrize(
    ("saved", "given"),
    [(local(1), local(-1)), (partial(energy), partial(energy))],
    ids=["lambda", "partial"],
)
def test_a_function_whose_name_others_have_resumes_with_a_warning(
    saved: Any, given: Any, tmp_path: Path
) -> None:
    model = adapted(saved)
    train(model, range(HALF))
    model.save_pretrained(tmp_path, save_training_state=True)
    state = AdapterState(model).state_dict()
    resumed = adapted(given)
    for load in (
        partial(load_again, resumed, tmp_path),
        partial(AdapterState(resumed).load_state_dict, state),
    ):
        with pytest.warns(UserWarning, match="a name that many functions have"):
            load()


def test_peft_loads_the_files_and_sees_no_new_key(
    criterion: Any, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    model = adapted(criterion)
    train(model, range(STEPS))
    model.save_pretrained(tmp_path, save_training_state=True)
    assert "importance_criterion" not in json.loads((tmp_path / "adapter_config.json").read_text())
    recwarn.clear()
    theirs = peft.PeftModel.from_pretrained(base(), tmp_path)
    assert not [each for each in recwarn if "importance" in str(each.message)]
    x = torch.randn(3, 6)
    torch.testing.assert_close(theirs(x), model.eval()(x))


def test_only_the_state_of_another_criterion_has_a_further_entry(tmp_path: Path) -> None:
    for name in ("sensitivity", "magnitude"):
        model = adapted(name)
        train(model, range(HALF))
        model.save_pretrained(tmp_path / name, save_training_state=True)
        (path,) = (tmp_path / name).glob("adalora_state.*")
        assert (b"importance_criterion" in path.read_bytes()) == (name == "magnitude")


def test_peft_does_not_get_the_configuration() -> None:
    with pytest.raises(ValueError, match="PEFT has no importance_criterion, got 'snr'"):
        to_peft_config(config("snr"))
    assert to_peft_config(config("sensitivity")).target_r == 2


def test_a_bridged_run_has_the_assigned_one_and_resumes_with_it_alone(tmp_path: Path) -> None:
    given = to_peft_config(config("sensitivity"))
    given.importance_criterion = "snr"
    model = attach(peft.get_peft_model(base(), given))
    train(model, range(HALF))
    (adapter,) = model.base_model.trained_adapters()
    assert type(adapter.allocator.criterion).__name__ == "SignalToNoise"
    model.save_pretrained(tmp_path, save_training_state=True)
    again = to_peft_config(config("sensitivity"))
    resumed = attach(peft.get_peft_model(base(), again))
    with pytest.raises(CheckpointError, match="'snr', and the adapter 'default' has 'sensitivity'"):
        resumed.load_adapter(tmp_path, "default", is_trainable=True)
    again.importance_criterion = "snr"
    resumed.load_adapter(tmp_path, "default", is_trainable=True)
    (adapter,) = resumed.base_model.trained_adapters()
    assert type(adapter.allocator.criterion).__name__ == "SignalToNoise"
    assert adapter.allocator.last_step == HALF - 1


def test_it_can_be_assigned_until_the_first_step() -> None:
    model = adapted("sensitivity")
    model.peft_config["default"].importance_criterion = "random"
    train(model, range(1))
    assert type(allocator_of(model).criterion).__name__ == "Random"
    model.peft_config["default"].importance_criterion = "snr"
    with pytest.raises(RunError, match="importance_criterion from random to snr"):
        train(model, range(1, 2))


def test_a_length_that_is_bound_later_leaves_it() -> None:
    model = adapted("magnitude", total_step="auto")
    model.bind_total_step(STEPS)
    train(model, range(STEPS))
    assert type(allocator_of(model).criterion).__name__ == "Magnitude"
    assert allocator_of(model).budget == 6
