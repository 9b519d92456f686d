"""Train the demo's words by Trainer; started again, continue from the newest whole checkpoint.

accelerate launch ... restarted_trainer.py FOLDER --every 40
torchrun --nproc-per-node 2 restarted_trainer.py FOLDER --strategy fsdp2 --every 40
"""

from __future__ import annotations

import argparse
import os
import zipfile
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from distributed_runs import whole_parameters
from fsdp_on_cpu import force_fsdp
from process_groups import leave
from restarted_training import say
from torch import distributed, nn
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from adalora_core.demo.experiment import FULL, RatedWord, split_words, verified_model_folder
from adalora_core.peft import AdaLoraConfig, get_peft_model
from adalora_core.trainers.distributed import check_agreement
from adalora_core.trainers.transformers import AdaLoraCallback


class Progress(TrainerCallback):
    """Print every step, and every save before it begins."""

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Print the step; Trainer saves after this event."""
        if args.process_index == 0:
            say(f"step {state.global_step}")
            if control.should_save:
                say(f"save {state.global_step}")


def newest_whole(folder: Path, world: int, *, is_divided: bool) -> str | None:
    """Return the last checkpoint whose save came to its end, by `world` processes.

    Every process writes its random state; the first one then writes the state of the trainer. Under
    FSDP2 the callback writes the training state of the adapter after that.
    """
    names = [f"rng_state_{rank}.pth" for rank in range(world)] if world > 1 else ["rng_state.pth"]
    whole = {
        int(state.parent.name.partition("-")[2]): str(state.parent)
        for state in folder.glob("checkpoint-*/trainer_state.json")
        if state.read_text().endswith("}")
        and all(zipfile.is_zipfile(state.with_name(name)) for name in names)
        and (not is_divided or any(state.parent.glob("adalora_state.*.safetensors")))
    }
    return whole[max(whole)] if whole else None


def trainer_for(arguments: argparse.Namespace, world: int) -> tuple[Trainer, list[RatedWord]]:
    """Return the trainer and the held-out words."""
    source = verified_model_folder()
    tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=True)
    base = AutoModelForSequenceClassification.from_pretrained(
        source, num_labels=2, local_files_only=True
    )
    if not arguments.dropout:
        for module in base.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
    # The last batch of an epoch, which is smaller, is left out: Trainer fills it up by words that
    # depend on the number of processes.
    fields = FULL.configuration() | {"task_type": "SEQ_CLS", "total_step": "auto"}
    division: dict[str, Any] = {}
    if arguments.strategy == "fsdp2":
        force_fsdp()
        config = {"version": 2, "transformer_layer_cls_to_wrap": ["BertLayer"]}
        division = {"fsdp": True, "fsdp_config": config}
    train, held_out = split_words(FULL)

    def collate(words: list[RatedWord]) -> Any:
        inputs = tokenizer([word.text for word in words], padding=True, return_tensors="pt")
        return inputs | {"labels": torch.tensor([int(word.positive) for word in words])}

    trainer = Trainer(
        get_peft_model(base, AdaLoraConfig(**fields)),
        TrainingArguments(
            output_dir=str(arguments.folder),
            num_train_epochs=FULL.epochs,
            per_device_train_batch_size=FULL.batch_size // world,
            learning_rate=FULL.learning_rate,
            warmup_steps=round(FULL.warmup_fraction * FULL.total_step),
            max_grad_norm=0.0,
            save_steps=arguments.every,
            dataloader_drop_last=True,
            # The loss of this model ignores `num_items_in_batch`, and Trainer would multiply it.
            average_tokens_across_devices=False,
            report_to=[],
            disable_tqdm=True,
            remove_unused_columns=False,
            dataloader_pin_memory=False,
            use_cpu=True,
            ddp_backend="gloo" if world > 1 else None,
            **division,
        ),
        data_collator=collate,
        train_dataset=train,
        callbacks=[Progress()],
    )
    AdaLoraCallback().add_to(trainer)
    return trainer, held_out


@torch.no_grad()
def held_out_accuracy(trainer: Trainer, held_out: list[RatedWord]) -> float:
    """Return the share of held-out words that are classified correctly; every process calls it."""
    model = trainer.model_wrapped.eval()
    inputs = trainer.data_collator(held_out)
    labels = inputs.pop("labels")
    return float((model(**inputs).logits.argmax(dim=-1) == labels).double().mean())


def main() -> None:
    """Train from the newest whole checkpoint, or from the beginning, to the end."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--strategy", choices=("ddp", "fsdp2"), default="ddp")
    parser.add_argument("--every", type=int, default=40, help="steps between two checkpoints")
    parser.add_argument("--dropout", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--saved-by", type=int, default=2, help="processes that save, or did")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    say(f"rank {rank} is process {os.getpid()}")
    trainer, held_out = trainer_for(arguments, world)
    checkpoint = newest_whole(
        arguments.folder, arguments.saved_by, is_divided=arguments.strategy == "fsdp2"
    )
    trainer.train(resume_from_checkpoint=checkpoint)
    model = trainer.model
    check_agreement(model)
    (adapter,) = model.base_model.trained_adapters()
    outcome = {
        "parameters": whole_parameters(model),
        "accuracy": held_out_accuracy(trainer, held_out),
        "mask": adapter.allocator.mask.tolist(),
        "ranks": adapter.allocator.rank_history(),
        "budgets": [(each.step, each.budget) for each in adapter.allocator.history],
    }
    if rank == 0:
        torch.save(outcome, arguments.folder / "outcome.pt")
    if distributed.is_initialized():
        distributed.destroy_process_group()


if __name__ == "__main__":
    main()
    leave()
