"""The calls of the CUDA module in a step: their order, their stream, and the memory they touch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
from adalora_runs import allocator_of
from counted_operations import Counted
from cuda_stand_in import StandIn
from tolerances import assert_all_equal
from toy_models import TwoLayer, two_layer_batch

from adalora_core import AdaLoraConfig, get_peft_model, ops
from adalora_core.ops import _backend, _operations

STREAM = 5
LAYER_FORWARD = ["fold_factors: fold", "drop: drop"]
LAYER_BACKWARD = ["drop: drop", "unfold_gradients: unfold"]
STEP = {
    "forward": [
        *LAYER_FORWARD,
        *LAYER_FORWARD,
        "gram_room:",
        "orthogonality_penalty: gram residual mean",
    ],
    "backward": [
        "orthogonality_gradient: gradient",
        "drop: drop",  # of the gradient of x, which the first layer does not need
        *LAYER_BACKWARD,
        *LAYER_BACKWARD,
    ],
    "update": ["update_importance: update"],
    "allocation": [
        "score_room:",
        "update_importance: update score",
        "select_triplets: select",
        "apply_mask: mask",  # apart, since a matrix without a gradient is spared
    ],
    "first final step": [
        "score_room:",
        "update_importance: update score",
        "select_triplets: select",
    ],
    "final step": ["apply_mask: mask"],
}
"""The functions of the module that a step calls, with the kernels that each launches."""

MODULE = {each.partition(":")[0] for steps in STEP.values() for each in steps}
OF_SHAPE_ALONE = {("score_room", 0), ("gram_room", 0), ("gram_room", 1), ("unfold_gradients", 4)}
"""Arguments of which no kernel reads a number; the last is B."""


def calls_of(steps: Sequence[str]) -> list[str]:
    """Return the same with each call of CUDA: that of the device in force, and the launches."""
    calls = []
    for step in steps:
        function, *kernels = step.replace(":", "").split()
        calls.append(function)
        if kernels:
            calls.append("cudaGetDevice")
        calls += [f"cudaLaunchKernel {each}_kernel on stream {STREAM}" for each in kernels]
    return calls


@pytest.fixture
def core(interpreted_core: StandIn, device: str) -> Iterator[StandIn]:
    """The module, on a stream that is not the first."""
    assert device == "interpreted"
    interpreted_core.take_calls()
    interpreted_core.control.move_to(0, STREAM)
    yield interpreted_core
    interpreted_core.control.move_to(0, 0)
    interpreted_core.control.forget(0)


def test_all_kernels_are_loaded_before_the_first_call(core: StandIn) -> None:
    first, second, *loaded = core.loading
    assert (first, second) == ("cudaDriverGetVersion", "cudaGetDevice")
    assert loaded == ["cudaFuncGetAttributes"] * 63


def adapted_model() -> Any:
    config = AdaLoraConfig(
        target_modules=["first", "second"], init_r=6, target_r=2, tinit=2, tfinal=3, total_step=8,
        deltaT=2, lora_dropout=0.1,
    )  # fmt: skip
    torch.manual_seed(0)
    return get_peft_model(TwoLayer(), config)


def test_a_training_step_asks_for_the_device_and_launches(core: StandIn) -> None:
    model = adapted_model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    names = dict(zip((3, 4, 5, 6), list(STEP)[2:], strict=True))
    found = {}
    for step in range(8):
        loss = model(**two_layer_batch(step)).loss
        found["forward"] = core.take_calls()
        loss.backward()
        found["backward"] = core.take_calls()
        optimizer.step()
        model.update_and_allocate(step)
        found[names.get(step, "other")] = core.take_calls()
        optimizer.zero_grad()
    assert {name: found[name] for name in STEP} == {
        name: calls_of(steps) for name, steps in STEP.items()
    }


class Ops:
    """Each op on tensors of its own."""

    def __init__(self) -> None:
        torch.manual_seed(1)
        shapes = [shape for _ in range(2) for shape in ((3, 9), (3, 1), (7, 3))]
        self.parameters = [torch.randn(shape, requires_grad=True) for shape in shapes]
        for each in self.parameters:
            each.grad = torch.randn(each.shape)
        self.parameters[0].grad[0, 0] = float("nan")  # type: ignore[index] # it was set
        self.averages = [torch.zeros(2 * 51) for _ in range(2)]

    @torch.no_grad()
    def allocate(self) -> list[torch.Tensor]:
        scores, values = torch.empty(6), self.parameters[1::3]
        smoothed, uncertainty = self.averages
        ops.update_importance(
            self.parameters, None, smoothed, uncertainty, 0.85, 0.7, scores=scores
        )
        mask = ops.select_triplets(scores, 1, values)
        ops.apply_mask(mask, values)
        return [*self.averages, scores, mask, *values]

    def penalty(self) -> list[torch.Tensor]:
        factors = [self.parameters[0::3], self.parameters[2::3]]
        penalty = ops.orthogonality_penalty(*factors)
        return [penalty, *torch.autograd.grad(penalty, [*factors[0], *factors[1]])]

    def gradients(self) -> None:
        base, x = torch.randn(5, 7), torch.randn(5, 9, requires_grad=True)
        A, E, B = self.parameters[:3]
        output = ops.svd_linear(base, x, A, E, B, 0.5, dropout=0.4)
        torch.autograd.grad(output.square().sum(), [x, A, E, B])


class Recorder:
    """Keeps the arguments of each call of `core`."""

    def __init__(self, core: StandIn) -> None:
        self.core = core
        self.given: list[tuple[str, tuple[Any, ...]]] = []

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            self.given.append((name, arguments))
            return getattr(self.core, name)(*arguments)

        return call


def tensors_in(arguments: Sequence[Any]) -> Iterator[torch.Tensor]:
    for each in arguments:
        if isinstance(each, torch.Tensor):
            yield each
        elif isinstance(each, list | tuple):
            yield from tensors_in(each)


def test_no_op_waits_for_a_number(core: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    # Counting is a dispatch mode, and what runs without one is counted.
    monkeypatch.setattr(_operations, "is_watched", lambda: False)
    made, model = Ops(), adapted_model()
    with Counted() as mode:
        for op in (made.allocate, made.penalty, made.gradients):
            op()
    model(**two_layer_batch(0)).loss.backward()
    with mode:
        for step in range(8):
            allocator_of(model).step(step)
    assert mode.waits == 0
    assert {each.split()[0] for each in core.take_calls()} == MODULE | {
        "cudaGetDevice",
        "cudaLaunchKernel",
    }


def test_a_launch_may_touch_the_tensors_of_its_call_alone(
    core: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder(core)
    monkeypatch.setattr(_backend, "_cuda_core_of", lambda _device: recorder)
    made = Ops()
    for op in (made.gradients, made.penalty, made.allocate):
        op()
    assert {name for name, _ in recorder.given} == MODULE
    for name, arguments in recorder.given:
        getattr(core, name)(*arguments)
        for place, argument in enumerate(arguments):
            for each in tensors_in([argument]):
                core.control.forget(each.data_ptr())
                if (name, place) in OF_SHAPE_ALONE:
                    getattr(core, name)(*arguments)
                    continue
                with pytest.raises(RuntimeError, match=r"CUDA: .*outside of memory"):
                    getattr(core, name)(*arguments)
        core.control.forget(0)


def test_a_captured_graph_repeats_every_op_on_the_numbers_of_then(
    core: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    direct, made = Ops(), Ops()
    recorder = Recorder(core)  # a graph keeps all memory
    with monkeypatch.context() as patch, core.capture():
        patch.setattr(_backend, "_cuda_core_of", lambda _device: recorder)
        captured = [*made.penalty(), *made.allocate()]
    assert not any(each.any() for each in made.averages)
    for _ in range(3):
        core.control.replay()
        assert_all_equal(captured, [*direct.penalty(), *direct.allocate()])
        for each, other in zip(made.parameters, direct.parameters, strict=True):
            other.grad = each.grad.normal_().clone()  # type: ignore[union-attr] # it was set


def test_a_second_device_is_current_for_a_call_and_not_after_it(core: StandIn) -> None:
    mask, values = torch.tensor([True, False]), [torch.ones(2, 1)]
    core.control.move_to(1, STREAM)
    around = (
        ["cudaGetDevice", "cuDevicePrimaryCtxRetain 1", "cuCtxPushCurrent_v2"],
        ["cuCtxPopCurrent_v2", "cuDevicePrimaryCtxRelease_v2 1"],
    )
    launch = f"cudaLaunchKernel mask_kernel on stream {STREAM}"
    ops.apply_mask(mask, values)
    assert core.take_calls() == ["apply_mask", *around[0], launch, *around[1]]
    core.control.forget(mask.data_ptr())
    with pytest.raises(RuntimeError, match="outside of memory"):
        ops.apply_mask(mask, values)
    assert core.take_calls() == ["apply_mask", *around[0], launch, *around[1]]
    core.control.move_to(2, STREAM)
    with pytest.raises(RuntimeError, match="CUDA: device 2 cannot be used, the driver reports err"):
        ops.apply_mask(mask, values)
    assert core.problem_of(1) == ""
    assert core.problem_of(2).startswith("CUDA: device 2 cannot be used")


def test_a_driver_that_is_missing_or_too_old_is_named(core: StandIn) -> None:
    version = core.runtime_version()
    try:
        for driver, problem in (
            (0, "there is no NVIDIA driver"),
            (11080, "supports CUDA 11.8, bu"),
        ):
            core.control.pretend_driver(driver)
            assert problem in core.problem_of(0)
    finally:
        core.control.pretend_driver(version)
    assert core.problem_of(0) == ""
