"""The portable backend: how many torch operations a step takes, and that the host never waits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import peft
import pytest
import torch
from counted_operations import counted
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import LlamaConfig, LlamaForCausalLM

from adalora_core import AdaLoraConfig, get_peft_model, ops
from adalora_core.allocation import AdaptedMatrix, AllocationReport, RankAllocator
from adalora_core.floor.adapter_spec import AdapterSpec
from adalora_core.floor.budget import Phase
from adalora_core.ops import _backend, _operations
from adalora_core.training.run.watch import RunWatch

FEW, MORE, MANY = 56, 224, 896
PER_LAYER = 7
RANK = 4
SHAPES = ((8, 12), (12, 8))
"""(in, out) of the matrices, in turn; a CPU takes more entries than those of 896 in blocks."""

UPDATE, ALLOCATION = 1, 3
SPEC = AdapterSpec(init_r=RANK, target_r=2, tinit=2, tfinal=5, total_step=20, deltaT=1)


@pytest.fixture(autouse=True)
def _no_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_backend, "HAS_CORE", False)


@pytest.fixture
def _unwatched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run what runs without a dispatch mode; that of fake tensors is one."""
    monkeypatch.setattr(_operations, "is_watched", lambda: False)


@pytest.fixture(params=["cpu", "cuda", "meta"])
def device(request: pytest.FixtureRequest) -> Iterator[str]:
    """Where tensors are: real ones on the CPU, fake ones elsewhere."""
    if request.param == "cpu":
        yield "cpu"
        return
    request.getfixturevalue("_unwatched")
    with FakeTensorMode(), torch.device(request.param):
        yield request.param


def allocator_of(matrices: int, dtypes: tuple[torch.dtype, ...]) -> RankAllocator:
    def factor(dtype: torch.dtype, *shape: int) -> dict[str, torch.nn.Parameter]:
        # Without CUDA torch ends the process where a tensor on a fake GPU requires a gradient.
        made = torch.nn.Parameter(torch.randn(shape, dtype=dtype), requires_grad=False)
        made.grad = torch.randn(shape, dtype=dtype)
        return {"default": made}

    found = []
    for index in range(matrices):
        n_in, n_out = SHAPES[index % 2]
        dtype = dtypes[index * len(dtypes) // matrices]
        shapes = ((RANK, n_in), (RANK, 1), (n_out, RANK))
        found.append(AdaptedMatrix(f"m{index}", *(factor(dtype, *s) for s in shapes), "default"))
    return RankAllocator(SPEC, found)


def step_counts(matrices: int, *dtypes: torch.dtype) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return operations and waits of an update, and of an update with an allocation."""
    allocator = allocator_of(matrices, dtypes)
    allocator.step(0)
    update = counted(lambda: allocator.step(UPDATE))
    return update, counted(lambda: allocator.step(ALLOCATION))


@pytest.mark.parametrize("matrices", [MORE, pytest.param(MANY, marks=pytest.mark.slow)])
def test_a_step_takes_as_many_operations_for_any_number_of_matrices_and_no_wait(
    device: str, matrices: int
) -> None:
    del device
    counts = [step_counts(each, torch.float32) for each in (FEW, matrices)]
    assert counts[0] == counts[1]
    (update, update_waits), (allocation, allocation_waits) = counts[0]
    assert update <= 60
    assert allocation <= 150
    assert (update_waits, allocation_waits) == (0, 0)


@pytest.mark.slow
def test_a_second_dtype_at_most_doubles_a_step(device: str) -> None:
    del device
    one = step_counts(FEW, torch.float32)
    two = step_counts(FEW, torch.float32, torch.float64)
    for (single, _), (double, waits) in zip(one, two, strict=True):
        assert double <= 2 * single + 10
        assert waits == 0


@pytest.mark.usefixtures("_unwatched")
def test_factors_on_two_devices_are_grouped_and_nothing_waits() -> None:
    mode = FakeTensorMode()
    with mode:
        allocators = []
        for devices in (("cuda:0",) * 2, ("cuda:0", "cuda:1")):
            halves = []
            for device in devices:
                with torch.device(device):
                    halves.append(allocator_of(28, (torch.float32,)).matrices)
            allocators.append(RankAllocator(SPEC, [*halves[0], *halves[1]]))
        counts = []
        for allocator in allocators:
            allocator.step(0)
            counts.append([counted(lambda a=allocator, s=step: a.step(s)) for step in (1, 3)])  # type: ignore[misc] # bound at once
    for (single, _), (double, waits) in zip(*counts, strict=True):
        assert double <= 2 * single + 15
        assert waits == 0
    mask = allocators[1].mask
    assert mask is not None
    assert mask.device == torch.device("cuda:0")
    parameters = allocators[1].parameters()
    with mode, torch.no_grad():
        penalty = ops.orthogonality_penalty(parameters[0::3], parameters[2::3])
    assert (penalty.device, penalty.shape) == (torch.device("cuda:0"), ())


@pytest.mark.slow
@pytest.mark.parametrize("device", ["cuda", "meta"], indirect=True)
def test_to_see_whether_e_changes_takes_few_operations_and_no_wait(device: str) -> None:
    del device

    def look(matrices: int) -> tuple[int, int]:
        run, done = RunWatch("default", ()), AllocationReport(0, Phase.WARMUP, 1, False, 0)
        run.begin(allocator_of(matrices, (torch.float32,)))
        run.see_allocation(done, None, penalties=1)
        return counted(lambda: run.see_allocation(done, None, penalties=1))

    operations, waits = look(FEW)
    assert (operations, waits) == look(MORE)
    assert operations <= 7
    assert waits == 0


def llama(matrices: int) -> LlamaForCausalLM:
    """Return a model whose adapted matrices have factors of two shapes each."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=64, hidden_size=32, intermediate_size=48, num_attention_heads=4,
            num_hidden_layers=matrices // PER_LAYER, max_position_embeddings=64, use_cache=False,
        )
    )  # fmt: skip


ADAPTER: dict[str, Any] = {"target_modules": "all-linear", "task_type": "CAUSAL_LM"}


def pass_counts(model: torch.nn.Module) -> tuple[int, int]:
    """Return the operations and waits of a forward and a backward pass."""
    model.train()
    ids = torch.ones(2, 6, dtype=torch.long)

    def step() -> None:
        model(input_ids=ids, labels=ids).loss.backward()

    step()
    model.zero_grad()
    return counted(step)


@pytest.mark.parametrize(
    ("matrices", "device"),
    [
        (FEW, "cpu"),
        *(pytest.param(*each, marks=pytest.mark.slow) for each in ((FEW, "meta"), (MORE, "cpu"))),
    ],
    indirect=["device"],
)
def test_a_pass_with_the_penalty_takes_at_most_a_twentieth_more_operations_than_plain_lora(
    matrices: int, device: str
) -> None:
    del device
    lora = peft.get_peft_model(llama(matrices), peft.LoraConfig(r=RANK, **ADAPTER))
    plain, plain_waits = pass_counts(lora)
    config = AdaLoraConfig(init_r=RANK, target_r=2, total_step=1000, orth_reg_weight=0.5, **ADAPTER)
    operations, waits = pass_counts(get_peft_model(llama(matrices), config))
    assert operations <= 1.05 * plain
    assert waits <= plain_waits
