"""compact(): the same outputs, the same training, less memory."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from adalora_runs import TARGET_BUDGET, end_step, final_ranks, make, optimizer_of
from toy_models import TwoLayer, two_layer_batch

from adalora_core import AdaLoraModel

pytestmark = pytest.mark.usefixtures("op_backend")

FINAL_START, STEPS = 25, 60
CLIP = 0.05
OPTIMIZERS = {
    "adamw": lambda parameters: torch.optim.AdamW(parameters, lr=1e-2),
    "amsgrad": lambda parameters: torch.optim.Adam(parameters, lr=1e-2, amsgrad=True),
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=1e-2, momentum=0.9),
    "plain-sgd": lambda parameters: torch.optim.SGD(parameters, lr=1e-2),
}


def fresh(weight: float = 0.0) -> Any:
    torch.manual_seed(3)
    return make("adalora_core", TwoLayer().double(), orth_reg_weight=weight)


def trained_parameters(model: Any) -> list[torch.Tensor]:
    return [each for each in model.parameters() if each.requires_grad]


def step_once(model: Any, optimizer: Any, step: int, *, clip: float | None = None) -> None:
    batch = two_layer_batch(step)
    batch["x"] = batch["x"].double()
    model(**batch).loss.backward()
    if clip is not None:
        torch.nn.utils.clip_grad_norm_(trained_parameters(model), clip)
    end_step(model, optimizer, step)


def run(model: Any, optimizer: Any, steps: range) -> None:
    model.train()
    for step in steps:
        step_once(model, optimizer, step)


def outputs(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(two_layer_batch(99)["x"].double()).logits


def test_outputs_right_after_are_the_same() -> None:
    model = fresh().float()
    optimizer = optimizer_of(model)
    model.train()
    for step in range(FINAL_START + 1):
        model(**two_layer_batch(step)).loss.backward()
        end_step(model, optimizer, step)
    x = two_layer_batch(99)["x"]
    model.eval()
    before = model(x).logits
    model.compact(optimizer)
    assert (model(x).logits - before).abs().max() <= 1e-6


@pytest.mark.filterwarnings("ignore:ADA808")  # beyond total_step, where nothing is allocated
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_later_training_equals_the_masked_run(kind: str) -> None:
    results = []
    for compacted in (False, True):
        model = fresh()
        optimizer = OPTIMIZERS[kind](trained_parameters(model))
        run(model, optimizer, range(FINAL_START + 1))
        if compacted:
            model.compact(optimizer)
        run(model, optimizer, range(FINAL_START + 1, STEPS))
        results.append(outputs(model))
    assert (results[0] - results[1]).abs().max() <= 1e-10


def kept_rows(model: Any) -> dict[int, tuple[int, torch.Tensor]]:
    """For every trained parameter: the axis of its triplets and the rows that stay."""
    adapter = model.base_model.adapters["default"]
    kept = adapter.allocator.kept()
    found = {}
    for path, layer in adapter.layers.items():
        rows = torch.tensor(kept[path]).nonzero().flatten()
        for factor, axis in (("lora_A", 0), ("lora_E", 0), ("lora_B", 1)):
            found[id(getattr(layer, factor)["default"])] = (axis, rows)
    return found


def kept_penalty(model: Any, weight: float) -> torch.Tensor:
    """The penalty of the kept triplets alone, by autograd on slices (paper equation 4)."""
    adapter = model.base_model.adapters["default"]
    rows = kept_rows(model)
    norms = []
    for layer in adapter.layers.values():
        for parameter in (layer.lora_A["default"], layer.lora_B["default"]):
            axis, kept = rows[id(parameter)]
            factor = parameter.index_select(axis, kept)
            gram = factor @ factor.T if axis == 0 else factor.T @ factor
            norms.append(torch.linalg.norm(gram - torch.eye(len(kept), dtype=gram.dtype)))
    return weight * torch.stack(norms).mean()


def masked_reference_step(model: Any, optimizer: Any, step: int, weight: float) -> None:
    """A masked step whose penalty and clip norm count kept triplets only."""
    batch = two_layer_batch(step)
    batch["x"] = batch["x"].double()
    task = model.base_model.model(**batch).loss
    (task + kept_penalty(model, weight)).backward()
    rows = kept_rows(model)
    with torch.no_grad():
        kept = [
            each.grad.index_select(axis, index)
            for each in trained_parameters(model)
            for axis, index in [rows[id(each)]]
        ]
        norm = torch.cat([each.flatten() for each in kept]).norm()
        scale = min(1.0, CLIP / (norm.item() + 1e-6))
        for each in trained_parameters(model):
            each.grad.mul_(scale)
    end_step(model, optimizer, step)


@pytest.mark.filterwarnings("ignore:ADA808")  # beyond total_step, where nothing is allocated
def test_with_penalty_and_clipping_it_equals_the_run_that_counts_kept_triplets() -> None:
    weight = 0.3
    masked, compacted = fresh(weight), fresh(weight)
    optimizers = [OPTIMIZERS["adamw"](trained_parameters(each)) for each in (masked, compacted)]
    for model, optimizer in zip((masked, compacted), optimizers, strict=True):
        run(model, optimizer, range(FINAL_START + 1))
    compacted.compact(optimizers[1])
    for step in range(FINAL_START + 1, STEPS):
        masked_reference_step(masked, optimizers[0], step, weight)
        step_once(compacted, optimizers[1], step, clip=CLIP)
    assert (outputs(masked) - outputs(compacted)).abs().max() <= 1e-10


def test_parameters_and_state_shrink_to_the_budget() -> None:
    model = fresh()
    optimizer = OPTIMIZERS["adamw"](trained_parameters(model))
    run(model, optimizer, range(FINAL_START + 1))
    report = model.compact(optimizer)
    per_triplet = 16 + 1 + 16
    assert report.parameters_before == 24 * per_triplet
    assert report.parameters_after == TARGET_BUDGET * per_triplet
    assert report.state_before == 2 * report.parameters_before
    assert report.state_after == 2 * report.parameters_after
    assert sum(each.numel() for each in trained_parameters(model)) == report.parameters_after


def test_the_pattern_and_the_files_stay_those_of_the_masked_run(tmp_path: Any) -> None:
    model = fresh()
    optimizer = OPTIMIZERS["adamw"](trained_parameters(model))
    run(model, optimizer, range(FINAL_START + 1))
    ranks, pattern = final_ranks(model), model.peft_config["default"].rank_pattern
    model.compact(optimizer)
    assert model.peft_config["default"].rank_pattern == pattern
    run(model, optimizer, range(FINAL_START + 1, 30))
    assert final_ranks(model) == ranks
    model.save_pretrained(tmp_path)
    torch.manual_seed(3)
    loaded = AdaLoraModel.from_pretrained(TwoLayer().double(), tmp_path)
    torch.testing.assert_close(outputs(loaded), outputs(model))


def test_a_compacted_run_resumes_bit_for_bit(tmp_path: Any) -> None:
    model = fresh(0.3)
    optimizer = OPTIMIZERS["adamw"](trained_parameters(model))
    run(model, optimizer, range(FINAL_START + 1))
    model.compact(optimizer)
    model.save_pretrained(tmp_path)
    state = copy.deepcopy(optimizer.state_dict())
    torch.manual_seed(3)
    resumed = AdaLoraModel.from_pretrained(TwoLayer().double(), tmp_path, is_trainable=True)
    again = OPTIMIZERS["adamw"](trained_parameters(resumed))
    again.load_state_dict(state)
    for each, stepper in ((model, optimizer), (resumed, again)):
        run(each, stepper, range(FINAL_START + 1, 30))
    assert torch.equal(outputs(resumed), outputs(model))


class TestRefusals:
    """Nothing is changed by a compaction that is refused."""

    def refuse(self, model: Any, optimizer: Any, message: str) -> None:
        before = [each.clone() for each in trained_parameters(model)]
        with pytest.raises(ValueError, match=message):
            model.compact(optimizer)
        for now, then in zip(trained_parameters(model), before, strict=True):
            assert torch.equal(now, then)

    def test_before_the_final_phase(self) -> None:
        model = fresh()
        optimizer = OPTIMIZERS["adamw"](trained_parameters(model))
        run(model, optimizer, range(10))
        self.refuse(model, optimizer, r"after update_and_allocate\(25\)")

    def test_with_a_foreign_optimizer(self) -> None:
        model = fresh()
        run(model, OPTIMIZERS["adamw"](trained_parameters(model)), range(FINAL_START + 1))
        foreign = OPTIMIZERS["adamw"]([torch.nn.Parameter(torch.zeros(1))])
        self.refuse(model, foreign, "does not hold the adapter's parameters")

    @pytest.mark.parametrize("kind", ["Adafactor", "LBFGS"])
    def test_with_state_that_cannot_be_cut(self, kind: str) -> None:
        model = fresh()
        optimizer = getattr(torch.optim, kind)(trained_parameters(model), lr=1e-3)
        model.train()
        for step in range(FINAL_START + 1):
            batch = two_layer_batch(step)
            batch["x"] = batch["x"].double()

            def closure(batch: Any = batch) -> torch.Tensor:
                optimizer.zero_grad()
                loss = model(**batch).loss
                loss.backward()
                return loss

            optimizer.step(closure)
            model.update_and_allocate(step)
        self.refuse(model, optimizer, f"{kind} keeps")
