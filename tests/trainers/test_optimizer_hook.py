"""`allocate_on_step`: allocation by a hook on the optimizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from adalora_runs import allocator_of, final_ranks, make, optimizer_of, train
from toy_models import TwoLayer, two_layer_batch

from adalora_core import allocate_on_step
from adalora_core.floor.errors import RunWarning
from adalora_core.trainers.distributed import AdapterState

pytestmark = pytest.mark.usefixtures("forget_dataloaders")


def fresh() -> Any:
    torch.manual_seed(7)
    return make("adalora_core", TwoLayer())


def hooked_run(model: Any, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        model(**two_layer_batch(step)).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def test_hooked_run_equals_the_documented_loop() -> None:
    expected = fresh()
    train(expected, range(30))
    model = fresh().train()
    optimizer = optimizer_of(model)
    allocate_on_step(optimizer, model)
    hooked_run(model, optimizer, range(30))
    assert final_ranks(model) == final_ranks(expected)
    assert all(map(torch.equal, model.parameters(), expected.parameters()))


def test_step_after_a_hook_that_raises_is_counted(library: str) -> None:
    model = make(library, TwoLayer()).train()
    optimizer = optimizer_of(model)
    allocate_on_step(optimizer, model)

    def fail(*_: Any) -> None:
        raise KeyError("a hook of the user")

    hook = optimizer.register_step_post_hook(fail)
    with pytest.raises(KeyError):
        hooked_run(model, optimizer, range(1))
    hook.remove()
    hooked_run(model, optimizer, range(1, 5))
    assert model.base_model.trained_adapters()[0].run.optimizer_steps == 5


def test_removed_hook_allocates_no_more() -> None:
    model = fresh().train()
    optimizer = optimizer_of(model)
    handle = allocate_on_step(optimizer, model)
    hooked_run(model, optimizer, range(2))
    handle.remove()
    hooked_run(model, optimizer, range(2, 4))
    assert model.base_model.adapters["default"].allocator.last_step == 1


def test_loop_that_allocates_beside_the_hook_is_told_once(library: str) -> None:
    model = make(library, TwoLayer()).train()
    optimizer = optimizer_of(model)
    allocate_on_step(optimizer, model)
    hooked_run(model, optimizer, range(4))
    with pytest.warns(RunWarning, match=r"got step 3.*take it out of the loop"):
        model.base_model.update_and_allocate(3)
    hooked_run(model, optimizer, range(4, 5))
    model.base_model.update_and_allocate(4)  # told once: a second warning would be an error here


def accumulated_run(library: str, micro_batches: int) -> Any:
    """Train in float64 under `accelerator.accumulate`, 30 steps over the same batches."""
    torch.manual_seed(7)
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=micro_batches)
    model = make(library, TwoLayer().double()).train()
    model, optimizer = accelerator.prepare(model, optimizer_of(model))
    allocate_on_step(optimizer, model)
    for step in range(30):
        batch = two_layer_batch(step)
        parts = zip(
            batch["x"].double().chunk(micro_batches),
            batch["labels"].chunk(micro_batches),
            strict=True,
        )
        for x, labels in parts:
            with accelerator.accumulate(model):
                accelerator.backward(model(x=x, labels=labels).loss)
                optimizer.step()
                optimizer.zero_grad()
    return accelerator.unwrap_model(model)


def test_accumulated_micro_batches_equal_the_batch_of_all(library: str) -> None:
    expected, model = accumulated_run(library, 1), accumulated_run(library, 4)
    assert allocator_of(model).last_step == 29
    assert final_ranks(model) == final_ranks(expected)
    for found, one in zip(model.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(found, one, atol=1e-10, rtol=0)


def accelerated(library: str) -> tuple[Accelerator, Any, torch.optim.Optimizer]:
    torch.manual_seed(7)
    accelerator = Accelerator(cpu=True)
    model = make(library, TwoLayer()).train()
    accelerator.register_for_checkpointing(AdapterState(model))
    model, optimizer = accelerator.prepare(model, optimizer_of(model))
    allocate_on_step(optimizer, model)
    return accelerator, model, optimizer


@pytest.mark.parametrize("stop", [1, 12, 27], ids=["warm-up", "budgeting", "final phase"])
def test_state_that_accelerate_saved_goes_on_as_if_never_stopped(
    library: str, stop: int, tmp_path: Path
) -> None:
    accelerator, expected, optimizer = accelerated(library)
    hooked_run(expected, optimizer, range(stop))
    accelerator.save_state(str(tmp_path))
    hooked_run(expected, optimizer, range(stop, 30))

    accelerator, resumed, optimizer = accelerated(library)
    accelerator.load_state(str(tmp_path))
    assert allocator_of(resumed).last_step == stop - 1
    hooked_run(resumed, optimizer, range(stop, 30))
    assert final_ranks(resumed) == final_ranks(expected)
    assert all(map(torch.equal, resumed.parameters(), expected.parameters()))


@pytest.mark.parametrize("fused", [False, True])
def test_step_that_a_scaler_skips_is_not_counted(fused: bool) -> None:
    model = fresh().train()
    trained = [each for each in model.parameters() if each.requires_grad]
    # Of a fused optimizer `step` is called, and it looks for overflows itself.
    optimizer = torch.optim.AdamW(trained, lr=1e-2, fused=fused)
    allocate_on_step(optimizer, model)
    scaler = torch.amp.GradScaler("cpu")
    for step in range(3):
        scaler.scale(model(**two_layer_batch(step)).loss).backward()
        if step == 1:
            next(model.base_model.trained_parameters()).grad.fill_(torch.inf)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
    allocator = model.base_model.adapters["default"].allocator
    assert allocator.last_step == 1
    assert allocator.statistics.skipped_entries == 0


def test_plain_model_is_refused() -> None:
    model = TwoLayer()
    with pytest.raises(TypeError, match=r"allocate_on_step.*get_peft_model"):
        allocate_on_step(torch.optim.SGD(model.parameters()), model)
