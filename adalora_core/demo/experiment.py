"""Run the demo from start to end: validate, train, save, reload with PEFT, draw, report."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TextIO

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from tqdm import tqdm

from adalora_core.checker.check import validate_config
from adalora_core.checker.plan.plan import Plan
from adalora_core.commands.rank_report.heatmap import draw_rank_heatmap
from adalora_core.demo import output
from adalora_core.demo.data import lexicon_path, read_words, split_words
from adalora_core.demo.encoder import (
    MODEL_NAME,
    WordBatches,
    accuracy,
    features,
    load_encoder,
    logits,
    mean_pooled,
    predictions_with_peft,
    save_head,
    verified_model_folder,
)
from adalora_core.demo.output import Outcome, render_report
from adalora_core.floor.files import write_file
from adalora_core.training import AdaLoraModel, get_peft_model
from adalora_core.training.training_state.progress import allocator_of

if TYPE_CHECKING:
    from pathlib import Path

    from adalora_core.allocation import RankAllocator
    from adalora_core.demo.settings import DemoSettings

SMOOTHING = 0.9
"""Weight of the past in the shown loss; the loss of a single batch jumps too much."""

LOG_WIDTH = 100
LOG_SECONDS = 10.0
"""Time between two refreshes if the bar goes into a file or a pipe, which keeps each."""


class ProgressBar(tqdm):  # type: ignore[type-arg]
    """Shows loss, phase, budget and active rank of a running training loop."""

    def __init__(self, allocator: RankAllocator, total: int, stream: TextIO) -> None:
        self._allocator = allocator
        self._loss: float | None = None
        super().__init__(
            total=total,
            file=stream,
            mininterval=0.1 if stream.isatty() else LOG_SECONDS,
            # tqdm's own width shows nothing on a terminal that reports no size.
            ncols=shutil.get_terminal_size((LOG_WIDTH, 0)).columns,
            nrows=2,
            # Short enough for a terminal of 80 columns.
            bar_format="{percentage:3.0f}%|{bar}| {n}/{total}, {remaining} left{postfix}",
        )

    def show(self, step: int, loss: float) -> None:
        """Advance the bar after the 0-based optimizer step `step`."""
        past = loss if self._loss is None else self._loss
        self._loss = SMOOTHING * past + (1 - SMOOTHING) * loss
        allocator = self._allocator
        self.set_postfix_str(
            f"loss {self._loss:.2f}, {allocator.phase.value}, "
            f"budget {allocator.schedule.at(step).budget}, "
            f"rank {allocator.budget / len(allocator.matrices):.1f}",
            refresh=False,
        )
        self.update()


def run_experiment(settings: DemoSettings, folder: Path) -> Outcome:
    """Run the demo and leave adapter, heat map and report in `folder`.

    Results appear in `folder` only when all of them are complete.
    """
    with output.staging_folder(folder) as staging:
        torch.manual_seed(settings.seed)
        config = validate_config(settings.configuration())
        model_folder = verified_model_folder()
        train, held_out = _word_batches(settings, model_folder)
        encoder = load_encoder(model_folder)
        base_parameters = _count(encoder.parameters())
        _say("model", f"{MODEL_NAME}, {base_parameters / 1e6:.1f} M parameters, digest verified")
        _say("data", f"{len(train)} words to learn from, {len(held_out)} held out, rated by people")
        probe = probe_accuracy(encoder, train, held_out)
        _say("frozen", f"{probe:.1%} of the held-out words by a linear probe on the frozen encoder")

        model = get_peft_model(encoder, config)
        allocator = allocator_of(*model.base_model.trained_adapters())
        matrices = len(allocator.matrices)
        plan = Plan(allocator.schedule, matrices, config.lora_alpha, config.init_r)
        _say("config", "valid; its phases in absolute optimizer steps:")
        for phase in plan.phases():
            _say("", f"  {phase.name:<10}{f'{phase.first}-{phase.last}':<9}{phase.what}")
        head = nn.Linear(encoder.config.hidden_size, 1)
        trainable = _count(p for p in (*model.parameters(), *head.parameters()) if p.requires_grad)
        started = time.perf_counter()
        with ProgressBar(allocator, settings.total_step, sys.stderr) as bar:
            train_adapter(model, head, train, settings, bar.show)
        seconds = time.perf_counter() - started

        predictions = logits(head, features(model, held_out))
        adapter = staging / output.ADAPTER
        # Otherwise PEFT looks for the base model's vocabulary on a hub.
        model.save_pretrained(str(adapter), save_embedding_layers=False)
        save_head(head, adapter)
        reloaded = predictions_with_peft(model_folder, adapter, held_out)
        outcome = Outcome(
            settings=settings,
            plan=plan,
            probe_accuracy=probe,
            adapted_accuracy=accuracy(predictions, held_out.labels),
            ranks=allocator.active_ranks(),
            trainable_parameters=trainable,
            base_parameters=base_parameters,
            training_seconds=seconds,
            prediction_difference=(predictions - reloaded).abs().max().item(),
        )
        draw_rank_heatmap(
            outcome.ranks,
            staging / output.HEAT_MAP,
            init_r=settings.init_r,
            title=f"Ranks after {settings.total_step} steps: {outcome.rank_sum} triplets",
        )
        write_file(staging / output.REPORT, render_report(outcome).encode())
        output.publish(staging, folder)
    return outcome


def probe_accuracy(encoder: nn.Module, train: WordBatches, held_out: WordBatches) -> float:
    """Return the held-out accuracy of a linear classifier on the features of the frozen encoder.

    The classifier is trained to convergence (logistic regression with a small L2 penalty), so that
    the adapters are compared with the best result of the frozen features.
    """
    inputs = features(encoder, train)
    mean, deviation = inputs.mean(dim=0), inputs.std(dim=0)
    head = nn.Linear(inputs.shape[1], 1)
    optimizer = torch.optim.LBFGS(head.parameters(), max_iter=200, line_search_fn="strong_wolfe")
    standardised = (inputs - mean) / deviation

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = binary_cross_entropy_with_logits(logits(head, standardised), train.labels)
        loss = loss + 1e-3 * head.weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    with torch.inference_mode():
        scores = logits(head, (features(encoder, held_out) - mean) / deviation)
    return accuracy(scores, held_out.labels)


def train_adapter(
    model: AdaLoraModel,
    head: nn.Module,
    words: WordBatches,
    settings: DemoSettings,
    on_step: Callable[[int, float], None],
) -> None:
    """Train adapters and head together; the budget is enforced after every step.

    The head maps pooled features `[n, hidden]` to one logit `[n, 1]`. `on_step` is called after
    each optimizer step with its 0-based number and its loss.
    """
    optimizer, rates = optimizer_and_rates(model, head, settings)
    order = torch.Generator().manual_seed(settings.seed)
    model.train()
    step = 0
    for _ in range(settings.epochs):
        for indices in torch.randperm(len(words), generator=order).split(settings.batch_size):
            inputs, labels = words.batch(indices)
            task_loss = binary_cross_entropy_with_logits(
                logits(head, mean_pooled(model, inputs)), labels
            )
            (task_loss + model.orthogonality_penalty()).backward()
            optimizer.step()
            # After the optimizer, which would revive triplets that were just pruned; before
            # zero_grad, since importance is |parameter * gradient|.
            model.update_and_allocate(step)
            optimizer.zero_grad()
            rates.step()
            on_step(step, task_loss.item())
            step += 1
    model.eval()


def optimizer_and_rates(
    model: nn.Module, head: nn.Module, settings: DemoSettings
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LambdaLR]:
    """Return AdamW over the trained parameters, and the schedule of the learning rate."""
    parameters = [p for p in (*model.parameters(), *head.parameters()) if p.requires_grad]
    optimizer = torch.optim.AdamW(
        parameters, lr=settings.learning_rate, weight_decay=0.0, fused=True
    )
    rates = torch.optim.lr_scheduler.LambdaLR(optimizer, settings.learning_rate_factor)
    return optimizer, rates


def _word_batches(settings: DemoSettings, model_folder: Path) -> tuple[WordBatches, WordBatches]:
    train, held_out = split_words(
        read_words(lexicon_path()),
        train=settings.train_words,
        held_out=settings.held_out_words,
        seed=settings.split_seed,
    )
    return WordBatches(model_folder, train), WordBatches(model_folder, held_out)


def _count(parameters: Any) -> int:
    return sum(parameter.numel() for parameter in parameters)


def _say(topic: str, text: str) -> None:
    print(f"{topic:<8}{text}", flush=True)
