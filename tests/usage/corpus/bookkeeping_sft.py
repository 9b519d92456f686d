from __future__ import annotations

import logging
import math

import torch
from datasets import load_dataset
from peft import AdaLoraConfig, TaskType
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl import SFTConfig, SFTTrainer

log = logging.getLogger("bookkeeping")

BASE = "ibm-granite/granite-3.1-2b-instruct"
EPOCHS, BATCH, ACCUM = 3, 2, 8


class AllocationCallback(TrainerCallback):
    def __init__(self, every: int = 10):
        self.every = every

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: torch.nn.Module | None = None, **kwargs
    ):
        if model is None:
            return control
        step = state.global_step + 1
        if hasattr(model, "base_model") and hasattr(model.base_model, "update_and_allocate"):
            model.base_model.update_and_allocate(step)
            if step % self.every == 0:
                log.info("step %d, pattern known: %s", step, bool(model.peft_config["default"].rank_pattern))
        return control


def main() -> None:
    tokenizer = AutoTokenizer.from_pretrained(BASE)
    ledger = load_dataset("json", data_files="ledger_chat.json", split="train")
    per_epoch = math.ceil(math.ceil(len(ledger) / BATCH) / ACCUM)
    steps = per_epoch * EPOCHS
    config = AdaLoraConfig(
        task_type=TaskType.CAUSAL_LM,
        init_r=16,
        target_r=8,
        lora_alpha=32,
        lora_dropout=0.05,
        target_modules=["q_proj", "v_proj", "o_proj"],
        tinit=steps // 10,
        tfinal=steps // 10,
        deltaT=max(1, steps // 100),
        total_step=steps,
    )
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(BASE, torch_dtype=torch.bfloat16),
        args=SFTConfig("granite-ledger", num_train_epochs=EPOCHS, per_device_train_batch_size=BATCH,
                       gradient_accumulation_steps=ACCUM, completion_only_loss=True, bf16=True),
        train_dataset=ledger,
        processing_class=tokenizer,
        peft_config=config,
        callbacks=[AllocationCallback()],
    )
    trainer.train()


if __name__ == "__main__":
    main()
