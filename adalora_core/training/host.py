"""Host the training of the adapters of a model: the methods that every tuner has."""

from __future__ import annotations

import functools
import operator
import weakref
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import nn

from adalora_core.config.rules.runs import NothingTrainable
from adalora_core.floor.errors import RunError
from adalora_core.sharding import add_orthogonality_gradient_, is_distributed, orthogonality_penalty
from adalora_core.training.adapter import Adapter
from adalora_core.training.agreement import AgreementCheck, refuse_unsynchronised
from adalora_core.training.compaction import CompactionReport, compact
from adalora_core.training.parallelism import refuse_unsupported
from adalora_core.training.run.reporting import explain_backward, text_of
from adalora_core.training.run_end import RunReport, run_report

TUNER = "_adalora_tuner"
"""Attribute of a module with injected adapters that is attached: its tuner."""

MOST_WATCHED = 8
"""How many training forwards are watched for a penalty that counts twice."""

_models: weakref.WeakKeyDictionary[nn.Module, weakref.ref[Any]] = weakref.WeakKeyDictionary()
"""The model of this package or of PEFT around each base model."""


def register(model: nn.Module) -> None:
    """Remember `model` as the one around its base model."""
    tuner = cast("Host", model.base_model)
    _models[tuner.model] = weakref.ref(model)


def model_around(base: nn.Module) -> Any:
    """Return the model that was registered last around `base`; None if there is none any more."""
    return _models.get(base, lambda: None)()


class PenaltyPerStep:
    """Decides which training forwards of an optimizer step add the penalty, and its weight.

    Under gradient accumulation, transformers' Trainer divides the losses of a step by the number of
    micro-batches. Losses that are normalised over the whole step (the model gets
    `num_items_in_batch`) are different: they are summed, and multiplied by the number of processes
    before gradients are averaged over processes. A penalty in each of them would count once per
    micro-batch and process, so the first forward alone adds a share of it.

    Without calls of `begin_step` every forward adds the whole penalty.

    Attributes:
        forwards: training forwards so far, without those of compiled models.
        additions: how often its gradient was added to the present gradients, unscaled.
        was_counted_twice: whether one forward's losses had the penalty of `outputs.loss` and one
            that the caller added.
        is_first: whether the next forward is the first of its step; None without calls of
            `begin_step`.
        reached: the last forward whose penalty a backward pass of the step has reached, by whether
            the forward has added it.
        latest: the penalty that was computed last, until a backward pass reaches it; None without
            calls of `begin_step`.
    """

    def __init__(self) -> None:
        self.forwards = 0
        self.was_in_a_loss = False
        self.was_added = False
        self.additions = 0
        self._added_to: torch.Tensor | None = None
        self.was_counted_twice = False
        self.is_left_out = False
        self.latest: torch.Tensor | None = None
        self.reached: dict[bool, int] = {}
        self.is_first: bool | None = None
        self._share = 1.0

    def __getstate__(self) -> dict[str, Any]:
        # Only the model that computed a penalty can have a backward pass that reaches it.
        return self.__dict__ | {"latest": None, "_added_to": None}

    def begin_step(self, *, multiplied_by: int = 1) -> None:
        """Begin an optimizer step: the next forward is its first.

        The caller multiplies a loss that is normalised over the step by `multiplied_by`, such as
        the number of processes, so the penalty is divided by it.
        """
        self.is_first = True
        self._share = 1 / multiplied_by

    def weight_for_forward(self, *, normalised_over_step: bool) -> float:
        """Return the weight of the penalty in the loss, which may be normalised over the step."""
        if self.is_first is None or not normalised_over_step:
            return 1.0
        weight = self._share if self.is_first else 0.0
        self.is_first = False
        return weight

    def record(self, penalty: torch.Tensor, *, by_forward: bool) -> None:
        """Watch for a backward pass that reaches `penalty`, which a forward or the caller adds."""
        if torch.compiler.is_compiling():
            # Only written: a compiled model would be compiled anew for each value that it reads.
            self.was_in_a_loss = True
            return
        if not penalty.requires_grad:
            return
        if self.is_first is not None:
            self.latest = penalty
        if not (self.was_in_a_loss and self.forwards > MOST_WATCHED):
            penalty.register_hook(functools.partial(self._mark_reached, by_forward, self.forwards))

    def record_added(self, gradient: torch.Tensor | None, scale: float) -> None:
        """Note that the gradient of the penalty times `scale` was added to `gradient`."""
        self.was_added = True
        is_added_again = gradient is self._added_to and scale == 1
        self.additions = self.additions + 1 if is_added_again else 1
        self._added_to = gradient

    def _mark_reached(self, by_forward: bool, forward: int, _: torch.Tensor) -> None:
        self.was_in_a_loss = True
        self.reached[by_forward] = forward
        self.was_counted_twice |= self.reached.get(not by_forward) == forward
        self.latest = None

    def end_step(self) -> tuple[int, int]:
        """Return how often a loss had the penalty, and how often its gradient was added."""
        additions, self.additions, self._added_to = self.additions, 0, None
        self.reached.clear()
        has_penalty = self.was_in_a_loss or self.was_added
        return 2 if self.was_counted_twice else int(has_penalty), additions


class TrainingRun:
    """The state of a training; `checked` has the calls that `refuse_unsupported` knows.

    `allocates_automatically` is the setting of the model; None means that of the process.
    """

    def __init__(self) -> None:
        self.allocates_automatically: bool | None = None
        self.penalty = PenaltyPerStep()
        self.checked: set[str] = set()

    @functools.cached_property
    def agreement(self) -> AgreementCheck:
        """Compares the processes of a run."""
        return AgreementCheck()

    def is_disabled(self, model: nn.Module) -> bool:  # noqa: ARG002
        """Return whether the adapters of `model` are disabled, so that it adds no penalty."""
        return False


class Host(nn.Module):
    """The methods of a model or tuner of this package, a bridged tuner, or an attached module."""

    model: nn.Module
    adapters: dict[str, Adapter]
    active_adapters: list[str]
    training_run: TrainingRun

    def trained_adapters(self) -> list[Adapter]:
        """Return the active adapters that are made for training."""
        active = [self.adapters[name] for name in self.active_adapters]
        return [each for each in active if each.is_trainable]

    def update_and_allocate(self, global_step: int) -> None:
        """Call the allocators of trained adapters after the 0-based step `global_step`."""
        adapters = learning_adapters(self, "update_and_allocate")
        step: Any = global_step
        if not (isinstance(step, float) and step.is_integer()):
            step = operator.index(step)
        adapters = [each for each in adapters if not each.run.automatic.end_by_call()]
        if not adapters:
            return
        if is_distributed():
            refuse_unsupported(adapters, "update_and_allocate", self.training_run.checked)
            self.training_run.agreement.before_step(adapters, step)
        penalties = self.training_run.penalty.end_step()
        for each in adapters:
            each.allocate(step, *penalties)

    def bind_total_step(self, total_step: int) -> None:
        """Replace a `total_step` of "auto" by a number, before the first step."""
        for adapter in self.trained_adapters():
            adapter.bind_total_step(total_step)

    def finalize(self) -> None:
        """Enforce the target budget after training; needed if `tfinal` is 0."""
        for adapter in self.trained_adapters():
            if adapter.allocator is not None:
                adapter.allocator.finalize()
            adapter.sync_pattern()

    def compact(self, optimizer: torch.optim.Optimizer) -> CompactionReport:
        """Cut dropped triplets out of the parameters and of `optimizer`'s state, in place.

        Call it in the final phase, after `update_and_allocate` or `finalize()`. Outputs stay the
        same up to rounding. Later training equals that of the masked run if neither the penalty nor
        gradient clipping sees dropped triplets (weight 0, no clipping). Otherwise it equals a
        masked run whose penalty and clip norm count kept triplets only.

        Args:
            optimizer: the optimizer that trains the adapter. Each entry of its state must have the
                shape of the parameter or be a scalar, as in AdamW, Adam and SGD.

        Raises:
            ValueError: the kept set is not final, or `optimizer` does not hold the factors or keeps
                other state; nothing was changed.

        Example:
            >>> import torch
            >>> from adalora_core import AdaLoraConfig, get_peft_model
            >>> config = AdaLoraConfig(init_r=4, target_r=2, total_step=9, target_modules=["0"])
            >>> model = get_peft_model(torch.nn.Sequential(torch.nn.Linear(4, 4)), config)
            >>> optimizer = torch.optim.AdamW(model.parameters())
            >>> model.finalize()
            >>> report = model.compact(optimizer)
            >>> report.parameters_before, report.parameters_after
            (36, 18)
        """
        return compact(self.model, self.trained_adapters(), optimizer)

    def run_report(self) -> RunReport:
        """Return what the run was: steps, budget, findings; waits for a GPU."""
        return run_report(learning_adapters(self, "run_report")[0])

    def orthogonality_penalty(self) -> torch.Tensor:
        """Return the weighted penalty that training adds to `outputs.loss`, for custom losses.

        `Σ orth_reg_weight · mean over A and B of ‖A Aᵀ - I‖_F, ‖Bᵀ B - I‖_F` (paper equation 4,
        un-squared and averaged, as PEFT does), a scalar.
        """
        return _weighted_penalty(self, by_forward=False)

    def add_orthogonality_gradient_(self, scale: float = 1.0) -> torch.Tensor:
        """Add the gradient of the weighted penalty to `.grad`; see `AdaLoraModel`."""
        if self.training_run.penalty.was_in_a_loss:
            raise ValueError(
                "add_orthogonality_gradient_: the penalty must be in no loss, or it counts twice, "
                "got a backward pass that reached it; a model adds it to outputs.loss: call "
                "leave_penalty_out_of_loss() before training, and add no orthogonality_penalty()"
            )
        terms, gradient = [], None
        for adapter in _with_penalty(self.trained_adapters()):
            weight, factors = adapter.spec.orth_reg_weight, adapter.factors()
            terms.append(add_orthogonality_gradient_(*factors, weight * scale) * weight)
            gradient = factors[0][0].grad
        self.training_run.penalty.record_added(gradient, scale)
        return sum(terms[1:], terms[0]) if terms else torch.zeros(())

    def leave_penalty_out_of_loss(self) -> None:
        """Add no penalty to `outputs.loss` from now on, for `add_orthogonality_gradient_`."""
        seen = self.training_run.penalty
        seen.is_left_out, seen.was_in_a_loss = True, False


def host_of(model: object, purpose: str) -> Host:
    """Return the tuner of `model`, wrapped or not; a TypeError without one."""
    inner = unwrapped(model)
    tuner = getattr(inner, "__dict__", {}).get(TUNER) or getattr(inner, "base_model", None)
    # Bridged tuners have the methods and not the class.
    if not hasattr(type(tuner), "trained_adapters"):
        raise TypeError(
            f"{purpose}: expected a model of adalora_core.get_peft_model, or one of PEFT after "
            f"adalora_core.bridge.attach(model); got {type(model).__name__}"
        )
    return cast("Host", tuner)


def learning_adapters(host: Host, purpose: str) -> list[Adapter]:
    """Return the trained adapters of `host`; a RunError if there are none."""
    if adapters := host.trained_adapters():
        return adapters
    seen = f"{purpose}: none of the active adapters {list(host.active_adapters)} is trainable"
    raise RunError(text_of(NothingTrainable, seen))


def unwrapped(model: object) -> nn.Module:
    """Return the model inside the wrappers of data-parallel training and of `torch.compile`."""
    while True:
        inner = getattr(model, "_orig_mod", None)
        if inner is None and type(model).__name__ in {"DistributedDataParallel", "DataParallel"}:
            inner = getattr(model, "module", None)
        if inner is None:
            return cast("nn.Module", model)
        model = inner


def check_forward(host: Host) -> None:
    """Refuse a training forward of a merged model, or of one divided so that it trains wrongly."""
    if not host.training or torch.compiler.is_compiling():
        return
    adapters = host.trained_adapters()
    if is_distributed():
        refuse_unsupported(adapters, "forward", host.training_run.checked)
        refuse_unsynchronised(host.model, adapters)
    for each in adapters:
        each.run.see_forward(each.layers)


def add_penalty(host: Host, outputs: Any, arguments: Mapping[str, Any]) -> Any:
    """Add the penalty to `outputs.loss` of a forward in training mode, and return `outputs`.

    A loss without a graph gets a method `backward` that explains itself. `arguments` are those of
    the forward.
    """
    loss, is_compiling = getattr(outputs, "loss", None), torch.compiler.is_compiling()
    penalties = host.training_run.penalty
    if host.training and not is_compiling:
        penalties.forwards += 1
    if not isinstance(loss, torch.Tensor):
        return outputs
    if host.training and not (penalties.is_left_out or host.training_run.is_disabled(host.model)):
        is_normalised = arguments.get("num_items_in_batch") is not None
        weight = penalties.weight_for_forward(normalised_over_step=is_normalised)
        if weight and _with_penalty(host.trained_adapters()):
            penalty = _weighted_penalty(host, by_forward=True)
            penalty = penalty if weight == 1 else penalty * weight
            outputs.loss = loss = loss + penalty.to(loss.device, loss.dtype)
    if not is_compiling:
        explain_backward(host.active_adapters, loss)
    return outputs


def _weighted_penalty(host: Host, *, by_forward: bool) -> torch.Tensor:
    """Return the weighted penalties, a scalar; `by_forward`: `outputs.loss` will contain it."""
    adapters = _with_penalty(host.trained_adapters())
    terms = [orthogonality_penalty(*one.factors()) * one.spec.orth_reg_weight for one in adapters]
    if not terms:
        return torch.zeros(())
    penalty: torch.Tensor = sum(terms[1:], terms[0])
    host.training_run.penalty.record(penalty, by_forward=by_forward)
    return penalty


def _with_penalty(adapters: Sequence[Adapter]) -> list[Adapter]:
    return [each for each in adapters if each.spec.orth_reg_weight > 0]


def allocate_next(host: Host) -> None:
    """Call the allocators after the step that follows the last one they have seen."""
    allocators = [adapter.allocator for adapter in host.trained_adapters()]
    steps = [each.last_step for each in allocators if each and each.last_step is not None]
    host.update_and_allocate(max(steps, default=-1) + 1)
