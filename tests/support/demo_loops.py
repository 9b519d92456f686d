"""Train the demo in other ways: through transformers' Trainer, and on a model that PEFT made."""

from __future__ import annotations

import functools
import tempfile
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from adalora_core import validate_config
from adalora_core.demo import experiment
from adalora_core.demo.experiment import (
    WordBatches,
    load_encoder,
    logits,
    mean_pooled,
    optimizer_and_rates,
    split_words,
    train_adapter,
    verified_model_folder,
)
from adalora_core.training import get_peft_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import nn
    from transformers import Trainer

    from adalora_core.config.model import AdaLoraConfig
    from adalora_core.demo.experiment import DemoSettings

LOOPS = ("raw", "trainer", "peft")
"""The loop of the demo itself, then the others."""


def use(loop: str) -> None:
    """Make `adalora demo` train through `loop` in this process."""
    experiment.get_peft_model = functools.partial(adapted, loop=loop)
    experiment.train_adapter = functools.partial(train, loop=loop)


def adapted(encoder: nn.Module, config: AdaLoraConfig, loop: str) -> Any:
    """Return `encoder` with an adapter; but for the demo's own loop PEFT makes it, attached."""
    if loop == "raw":
        return get_peft_model(encoder, config)
    import peft

    from adalora_core.bridge import attach, to_peft_config

    with warnings.catch_warnings():
        # PEFT 0.21 asks transformers 5 for an attribute by its old name.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        return attach(peft.get_peft_model(encoder, to_peft_config(config)))


class Prepared(NamedTuple):
    """What the demo trains, and by what."""

    model: Any
    head: nn.Module
    words: WordBatches


def prepare(settings: DemoSettings, loop: str) -> Prepared:
    """Return the encoder of the demo with an adapter, a head and the words to train by."""
    folder = verified_model_folder()
    model = adapted(load_encoder(folder), validate_config(settings.configuration()), loop)
    head = torch.nn.Linear(model.config.hidden_size, 1)
    words, _ = split_words(settings)
    return Prepared(model, head, WordBatches(folder, words))


def train(
    model: Any,
    head: nn.Module,
    words: WordBatches,
    settings: DemoSettings,
    on_step: Callable[[int, float], None],
    loop: str,
) -> None:
    """Train adapters and head together through one of `LOOPS`; LoRA by the demo's own."""
    if loop != "trainer" or not hasattr(model, "update_and_allocate"):
        train_adapter(model, head, words, settings, on_step)
        return
    with tempfile.TemporaryDirectory() as folder:
        trainer_for(model, head, words, settings, on_step, folder).train()
    model.eval()


def trainer_for(
    model: Any,
    head: nn.Module,
    words: WordBatches,
    settings: DemoSettings,
    on_step: Callable[[int, float], None],
    folder: str | Path,
    **arguments: Any,
) -> Trainer:
    """Return a Trainer that does what `train_adapter` does; `arguments` are Trainer's."""
    from transformers import Trainer, TrainerCallback, TrainingArguments

    from adalora_core.trainers.transformers import AdaLoraCallback

    class WordTrainer(Trainer):  # type: ignore[misc,unused-ignore]  # untyped in some releases
        def compute_loss(
            self,
            model: Any,
            inputs: dict[str, Any],
            return_outputs: bool = False,
            num_items_in_batch: Any = None,
        ) -> Any:
            del return_outputs, num_items_in_batch
            labels = inputs.pop("labels")
            task = binary_cross_entropy_with_logits(
                logits(head, mean_pooled(model, inputs)), labels
            )
            return task + model.orthogonality_penalty()

    class Progress(TrainerCallback):  # type: ignore[misc,unused-ignore]  # same
        def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            del args, control
            logs = kwargs["logs"]
            if "loss" in logs:
                on_step(state.global_step - 1, logs["loss"])

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            del args, state, control, kwargs
            # Trainer clears the gradients of its model, which does not contain the head.
            head.zero_grad()

    def collate(indices: list[int]) -> dict[str, torch.Tensor]:
        inputs, labels = words.batch(torch.tensor(indices))
        return {**inputs, "labels": labels}

    options = TrainingArguments(
        **{
            "output_dir": str(folder),
            "num_train_epochs": settings.epochs,
            "per_device_train_batch_size": settings.batch_size,
            "max_grad_norm": 0.0,
            "logging_steps": 1,
            "save_strategy": "no",
            "report_to": [],
            "disable_tqdm": True,
            "remove_unused_columns": False,
            "dataloader_pin_memory": False,
            "use_cpu": True,
            "seed": settings.seed,
            **arguments,
        }
    )
    trainer = WordTrainer(
        model,
        options,
        data_collator=collate,
        train_dataset=range(len(words)),
        optimizers=optimizer_and_rates(model, head, settings),
        callbacks=[Progress()],
    )
    # Trainer would print its table between the lines of the demo's bar.
    trainer.callback_handler.callbacks = [
        each
        for each in trainer.callback_handler.callbacks
        if type(each).__name__ != "PrinterCallback"
    ]
    AdaLoraCallback().add_to(trainer)
    return trainer
