"""The penalty is in what Trainer trains exactly once, whatever computes the loss."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from toy_models import VOCABULARY
from trainer_runs import Sequences, arguments_for, llama
from transformers import Trainer, TrainerCallback

from adalora_core.trainers.transformers import AdaLoraCallback

# One step shows all; the schedule is made for more.
pytestmark = pytest.mark.filterwarnings("ignore:ADA824. Trainer makes")

WEIGHT = 0.25


def task_loss(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
    logits = outputs.logits[:, :-1].reshape(-1, VOCABULARY)
    total = torch.nn.functional.cross_entropy(logits, labels[:, 1:].flatten(), reduction="sum")
    return total / (num_items_in_batch or labels[:, 1:].numel())


class FromLogits(Trainer):
    """Computes the loss of the model, and takes another."""

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any) -> Any:
        outputs = model(**inputs)
        loss = task_loss(outputs, inputs["labels"])
        return (loss, outputs) if return_outputs else loss


class FromLogitsDivided(FromLogits):
    loss_is_scaled_for_ga = False


class WithItsOwnPenalty(FromLogitsDivided):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.model_accepts_loss_kwargs = False  # what divides the loss in transformers 5.17

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any) -> Any:
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        loss = task_loss(outputs, labels) + model.orthogonality_penalty()
        return (loss, outputs) if return_outputs else loss


class FromTrainer(Trainer):
    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        return super().compute_loss(*args, **kwargs)


KINDS: dict[str, tuple[type[Trainer], dict[str, Any], dict[str, Any]]] = {
    "model": (Trainer, {}, {}),
    "label_smoothing": (Trainer, {"label_smoothing_factor": 0.1}, {}),
    "compute_loss_func": (Trainer, {}, {"compute_loss_func": task_loss}),
    "super": (FromTrainer, {}, {}),
    "logits": (FromLogits, {}, {}),
    "logits-divided": (FromLogitsDivided, {}, {}),
    "own-penalty": (WithItsOwnPenalty, {}, {}),
}
PASS_IT_BY = ["label_smoothing", "compute_loss_func", "logits", "logits-divided"]


class Gradients(TrainerCallback):
    """Keeps the gradients of the only step."""

    def __init__(self) -> None:
        self.found: dict[str, torch.Tensor] = {}

    def on_pre_optimizer_step(self, *_: Any, model: Any = None, **__: Any) -> None:
        self.found = {
            name: each.grad.clone()
            for name, each in model.named_parameters()
            if each.grad is not None
        }


def trainer_of(kind: str, model: Any, folder: Path, accumulation: int, *others: Any) -> Trainer:
    cls, arguments, options = KINDS[kind]
    arguments = {**arguments, "gradient_accumulation_steps": accumulation, "max_grad_norm": 0.0}
    settings = arguments_for(folder, max_steps=1, **arguments)
    return cls(model, settings, train_dataset=Sequences(), callbacks=[*others], **options)


def gradients(kind: str, folder: Path, accumulation: int, weight: float) -> dict[str, torch.Tensor]:
    watcher = Gradients()
    model = llama("attached", torch.float64, orth_reg_weight=weight)
    trainer = trainer_of(kind, model, folder, accumulation, watcher)
    AdaLoraCallback().add_to(trainer)
    trainer.train()
    return watcher.found


@pytest.mark.parametrize(
    ("kind", "accumulation"), [*((kind, 3) for kind in KINDS), ("model", 1), ("label_smoothing", 1)]
)
def test_penalty_is_in_the_gradient_once(kind: str, accumulation: int, tmp_path: Path) -> None:
    without = gradients(kind, tmp_path, accumulation, 0.0)
    found = gradients(kind, tmp_path, accumulation, WEIGHT)
    model = llama("attached", torch.float64, orth_reg_weight=WEIGHT)
    model.orthogonality_penalty().backward()
    expected = {name: each.grad for name, each in model.named_parameters()}
    for name, gradient in found.items():
        if expected[name] is not None:
            torch.testing.assert_close(gradient - without[name], expected[name], msg=name)
    assert sum(each is not None for each in expected.values()) == 8


def test_loop_after_trainer_has_the_penalty_in_every_forward(tmp_path: Path) -> None:
    model = llama("attached")
    trainer = trainer_of("model", model, tmp_path, 1)
    AdaLoraCallback().add_to(trainer)
    trainer.train()
    batch = torch.utils.data.default_collate([Sequences()[0]])
    for _ in range(2):
        found = model.train()(**batch, num_items_in_batch=11).loss
        task = model.get_base_model()(**batch, num_items_in_batch=11).loss
        torch.testing.assert_close(found, task + model.orthogonality_penalty())


# One adds it itself, in every mode.
@pytest.mark.parametrize("kind", sorted(KINDS.keys() - {"own-penalty"}))
def test_evaluation_loss_is_the_task_loss(kind: str, tmp_path: Path) -> None:
    losses = []
    for weight in (0.0, WEIGHT):
        trainer = trainer_of(kind, llama("attached", orth_reg_weight=weight), tmp_path, 1)
        AdaLoraCallback().add_to(trainer)
        losses.append(trainer.evaluate(Sequences(8))["eval_loss"])
    assert losses[0] == losses[1]


@pytest.mark.parametrize("kind", KINDS)
def test_callback_without_add_to_warns_once_where_the_penalty_is_missing(
    kind: str, tmp_path: Path
) -> None:
    trainer = trainer_of(kind, llama("attached"), tmp_path, 1, AdaLoraCallback())
    trainer.args.max_steps = 3
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.train()
    said = [str(each.message) for each in caught if "add_to" in str(each.message)]
    assert len(said) == (kind in PASS_IT_BY)
    assert all("add_to(trainer)" in each and "orth_reg_weight is 0.5" in each for each in said)
