"""What only a GPU can show: no waiting, graph capture, side streams, several devices."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from tolerances import assert_all_equal

from adalora_core import ops

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not torch.cuda.is_available(),
        reason="no GPU; would have shown that no op waits, and that all can be captured",
    ),
]
IN, RANK, OUT, MATRICES = 96, 12, 80, 5


@pytest.fixture
def nothing_waits() -> Iterator[None]:
    """Make every synchronisation of torch an error."""
    torch.cuda.synchronize()
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    yield
    torch.cuda.set_sync_debug_mode(before)


class Step:
    """Inputs that stay where they are, and each op on them."""

    def __init__(self, device: str = "cuda") -> None:
        def rand(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, device=device)

        shapes = [s for _ in range(MATRICES) for s in ((RANK, IN), (RANK, 1), (OUT, RANK))]
        self.parameters = [rand(*shape).requires_grad_() for shape in shapes]
        for parameter in self.parameters:
            parameter.grad = rand(*parameter.shape)
        entries = sum(each.numel() for each in self.parameters)
        self.averages = [torch.zeros(entries, device=device) for _ in range(2)]
        self.scores = torch.zeros(MATRICES * RANK, device=device)
        self.x, self.base = rand(7, IN), rand(7, OUT)

    @torch.no_grad()
    def allocate(self) -> torch.Tensor:
        ops.update_importance(self.parameters, None, *self.averages, 0.85, 0.7, scores=self.scores)
        mask = ops.select_triplets(self.scores, 20, self.parameters[1::3])
        ops.apply_mask(mask, self.parameters[1::3])
        return mask

    def gradients(self, dropout: float = 0.0) -> list[torch.Tensor]:
        factors = self.parameters[:3]
        penalty = ops.orthogonality_penalty(self.parameters[0::3], self.parameters[2::3])
        output = ops.svd_linear(self.base, self.x, *factors, 0.5, dropout=dropout)
        return list(torch.autograd.grad(output.square().sum() + penalty, factors))

    def results(self) -> list[torch.Tensor]:
        return [self.allocate(), *self.averages, self.scores, *self.gradients()]


def clone(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
    return [each.clone() for each in tensors]


def restore(state: list[torch.Tensor], start: list[torch.Tensor]) -> None:
    for target, source in zip(state, start, strict=True):
        target.copy_(source)


@pytest.mark.usefixtures("nothing_waits")
def test_no_op_waits_for_the_device() -> None:
    Step().results()


def capture(run: Callable[[], Any]) -> tuple[torch.cuda.CUDAGraph, Any]:
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        run()  # warms up cuBLAS
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = run()
    return graph, result


def test_a_captured_graph_repeats_every_op() -> None:
    step = Step()
    state = [*step.averages, *step.parameters]
    start = clone(state)
    graph, found = capture(step.results)
    with torch.no_grad():
        restore(state, start)
        graph.replay()
        replayed = clone(found)
        restore(state, start)
    assert_all_equal(replayed, step.results())


def test_a_captured_graph_draws_dropout_anew() -> None:
    step = Step()
    graph, found = capture(lambda: step.gradients(dropout=0.5))
    graph.replay()
    first = clone(found)
    graph.replay()
    assert not torch.equal(found[0], first[0])


def test_a_side_stream_gives_the_same_results() -> None:
    torch.manual_seed(3)
    expected = Step().results()
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        torch.manual_seed(3)
        step = Step()
        torch.cuda._sleep(10_000_000)  # what is enqueued elsewhere would overtake this
        found = step.results()
    side.synchronize()
    assert_all_equal(found, expected)


def test_skipped_entries_are_counted_on_the_device() -> None:
    step = Step()
    assert step.parameters[0].grad is not None
    step.parameters[0].grad[0, 0] = float("nan")
    skipped = ops.update_importance(step.parameters, None, *step.averages, 0.85, 0.7)
    assert isinstance(skipped, torch.Tensor)
    assert skipped.is_cuda
    assert int(skipped) == 1


def test_tensors_on_the_cpu_among_those_of_a_gpu_are_refused_by_name() -> None:
    step = Step()
    mask = torch.ones(2, dtype=torch.bool, device="cuda")
    with pytest.raises(ValueError, match=r"apply_mask: singular_values\[0\] must be on a CUDA dev"):
        ops.apply_mask(mask, [torch.ones(2, 1)])
    A, E, B = step.parameters[:3]
    mixed = [A, E.cpu(), B]
    with pytest.raises(ValueError, match=r"update_importance: parameters\[1\] must be on cuda:0"):
        ops.update_importance(mixed, [None] * 3, mixed, mixed, 0.5, 0.5)
    with pytest.raises(ValueError, match="svd_linear: E must be on cuda:0 as x is"):
        ops.svd_linear(step.base, step.x, *mixed, 0.5)


two_gpus = pytest.mark.skipif(
    torch.cuda.device_count() < 2, reason="one GPU; would have used the ops on two devices"
)


@two_gpus
def test_threads_of_two_devices_may_call_at_once() -> None:
    def work(device: str) -> None:
        with torch.cuda.device(device):
            step = Step(device)
            for _ in range(200):
                step.results()

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(work, device) for device in ("cuda:0", "cuda:1")]:
            done.result()


@two_gpus
def test_the_second_device_serves_its_own_tensors() -> None:
    torch.manual_seed(3)
    expected = Step("cuda:0").results()
    torch.manual_seed(3)
    found = Step("cuda:1").results()
    assert {each.get_device() for each in found} == {1}
    assert torch.cuda.current_device() == 0
    for actual, wanted in zip(found, expected, strict=True):
        assert actual.shape == wanted.shape
