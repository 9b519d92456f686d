"""Run one half of a pilot: AdaLoRA from LoRA's start, on a model that is left as it was."""

from __future__ import annotations

import contextlib
import copy
import random
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from adalora_core.training import AdaLoraModel

COMPARED_STEPS = 8
"""Steps over which losses are compared."""


@dataclass(frozen=True)
class HalfPilot:
    """A short run of AdaLoRA on a model whose adapter has seen no step.

    Its part after pruning is made twice, for two budgets. The optimizer holds what learns.
    """

    model: AdaLoraModel
    training_step: Callable[[torch.nn.Module, int], torch.Tensor]
    steps: range
    optimizer: torch.optim.Optimizer

    def result(
        self, costs: Mapping[str, int], limit: int
    ) -> tuple[dict[str, torch.Tensor], dict[str, int], tuple[float, ...]]:
        """Train, and compare the losses of two budgets; see `find_ranks`.

        Returns:
            The scores of each module's triplets, of which the highest come first, and all add up to
            1; the ranks that these scores alone give; and the mean losses without an adapter, with
            the budget, and with half of it.
        """
        allocator = self.model.base_model.adapter.allocator
        assert allocator is not None  # noqa: S101 - made with the adapter
        pruned = allocator.schedule.final_start
        for place in range(pruned):
            self._train(place)
            self.model.update_and_allocate(place)
            self.optimizer.zero_grad()
        found = allocator.triplet_scores()
        self.model.finalize()
        scores = {path: each.double().cpu() for path, each in found.items()}
        kept = most_important(scores, costs, limit)
        rest = range(pruned, len(self.steps))
        losses = (
            self._loss_after(range(0), most_important(scores, costs, 0)),
            self._loss_after(rest, kept),
            self._loss_after(rest, most_important(scores, costs, limit // 2)),
        )
        total = sum(float(each.sum()) for each in scores.values())
        return (
            {path: each.sort(descending=True).values / total for path, each in scores.items()},
            {path: int(flags.sum()) for path, flags in kept.items()},
            losses,
        )

    def _train(self, place: int) -> None:
        """Make one step of the optimizer, whose rate rises over a tenth and then falls to 0."""
        rise = min((place + 1) / max(1, len(self.steps) // 10), 1)
        for group in self.optimizer.param_groups:
            highest = group.setdefault("initial_lr", group["lr"])
            group["lr"] = highest * rise * (1 - place / len(self.steps))
        self._loss(self.model.train(), self.steps[place]).backward()
        self.optimizer.step()

    def _loss(self, model: torch.nn.Module, step: int) -> torch.Tensor:
        """Return the loss of a step; an error if that is not one finite number."""
        loss: Any = self.training_step(model, step)
        expected = f"training_step: expected a loss at step {step} that is a tensor of one"
        if not isinstance(loss, torch.Tensor):
            raise TypeError(f"{expected} finite number, got {loss!r}; return the loss of the model")
        if loss.numel() != 1:
            raise ValueError(f"{expected} number, got the shape {[*loss.shape]}; return its mean")
        if not loss.isfinite():
            raise ValueError(f"{expected} finite number, got {loss.item()}; lower lr")
        return loss

    def _loss_after(self, places: range, kept: Mapping[str, torch.Tensor]) -> float:
        """Return the mean loss of the last steps after training `places` with `kept` alone.

        Factors and optimizer are as before afterwards.
        """
        parameters = [each for each in self.model.parameters() if each.requires_grad]
        before = [each.detach().clone() for each in parameters]
        state = copy.deepcopy(self.optimizer.state_dict())
        self._keep(kept)
        for place in places:
            self._train(place)
            self.optimizer.zero_grad()
            self._keep(kept)
        model = self.model.eval()
        with torch.no_grad():
            compared = self.steps[-COMPARED_STEPS:]
            losses = [float(self._loss(model, step)) for step in compared]
            for parameter, values in zip(parameters, before, strict=True):
                parameter.copy_(values)
        self.optimizer.load_state_dict(state)
        return sum(losses) / len(losses)

    @torch.no_grad()
    def _keep(self, kept: Mapping[str, torch.Tensor]) -> None:
        adapter = self.model.base_model.adapter
        for path, layer in adapter.layers.items():
            values = layer.lora_E[adapter.name]
            values.mul_(kept[path].to(values.device)[:, None])


def most_important(
    scores: Mapping[str, torch.Tensor], costs: Mapping[str, int], limit: int
) -> dict[str, torch.Tensor]:
    """Return which triplets to keep: the highest scores first, as long as they fit into `limit`.

    A triplet of a module takes its part of `costs`. Position decides ties.

    Example:
        >>> scores = {"wide": torch.tensor([4.0, 2.0]), "small": torch.tensor([3.0, 1.0])}
        >>> most_important(scores, {"wide": 30, "small": 10}, 50)
        {'wide': tensor([ True, False]), 'small': tensor([True, True])}
    """
    kept = {path: torch.zeros(len(each), dtype=torch.bool) for path, each in scores.items()}
    flat = torch.cat(list(scores.values()))
    places = [(path, row) for path, each in scores.items() for row in range(len(each))]
    left = limit
    for index in flat.argsort(descending=True, stable=True).tolist():
        path, row = places[index]
        if costs[path] <= left:
            kept[path][row] = True
            left -= costs[path]
    return kept


def trainer_step(trainer: Any, steps: int) -> Callable[[torch.nn.Module, int], torch.Tensor]:
    """Return the loss of a Trainer for batches of its training set, one for each step."""
    prepared = trainer.accelerator._dataloaders  # noqa: SLF001 - no public way
    before = list(prepared)
    batches: list[Any] = []
    while len(batches) < steps:
        batches += islice(trainer.get_train_dataloader(), steps - len(batches))
    prepared[:] = before

    def step(model: torch.nn.Module, number: int) -> torch.Tensor:
        inputs = trainer._prepare_inputs(dict(batches[number]))  # noqa: SLF001 - same
        with trainer.compute_loss_context_manager():
            loss: torch.Tensor = trainer.compute_loss(model, inputs)
        return loss

    return step


@contextlib.contextmanager
def left_as_it_was(model: torch.nn.Module) -> Iterator[None]:
    """Restore `model` and the generators of random numbers after the block, also after a failure.

    Restored are modules, hooks, modes, other attributes, buffers, gradients and which parameters
    learn. Values of parameters are not copied: the block has to leave them alone.

    Raises:
        RuntimeError: the block has written to a parameter of the model.

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.BatchNorm1d(1))
        >>> with left_as_it_was(model):
        ...     model(torch.tensor([[1.0], [3.0]]))
        ...     model[0] = torch.nn.Identity()
        tensor([[-1.0000],
                [ 1.0000]], grad_fn=<NativeBatchNormBackward0>)
        >>> model[0].running_mean
        tensor([0.])
    """
    containers = (dict, list, set)  # as of hooks
    attributes = [
        (
            module,
            {k: copy.copy(v) if isinstance(v, containers) else v for k, v in vars(module).items()},
        )
        for module in model.modules()
    ]
    buffers = [(each, each.detach().clone()) for each in model.buffers()]
    parameters = [(each, each.requires_grad, each.grad) for each in model.parameters()]
    versions = [each._version for each, _, _ in parameters]  # noqa: SLF001 - torch documents it
    state, numpy = random.getstate(), sys.modules.get("numpy")
    numpy_state = numpy.random.get_state() if numpy else None
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(state)
        if numpy:
            numpy.random.set_state(numpy_state)
        for module, kept in attributes:
            vars(module).clear()
            vars(module).update(kept)
        with torch.no_grad():
            for buffer, values in buffers:
                buffer.copy_(values)
        for parameter, learns, gradient in parameters:
            parameter.requires_grad_(learns)
            parameter.grad = gradient
    written = [
        name
        for (name, parameter), version in zip(model.named_parameters(), versions, strict=True)
        if parameter._version != version  # noqa: SLF001
    ]
    if written:
        raise RuntimeError(
            f"model: the training step wrote to the parameter {written[0]!r} and "
            f"{len(written) - 1} others; let it return a loss and change nothing"
        )
