#!/usr/bin/env python
"""SST-2 / RoBERTa / AdaLoRA with gradient accumulation, HF Trainer."""
import math
import numpy as np
from datasets import load_dataset
from peft import AdaLoraConfig, get_peft_model
from transformers import (AutoModelForSequenceClassification, AutoTokenizer,
                          DataCollatorWithPadding, Trainer, TrainerCallback, TrainingArguments)

BASE = "roberta-base"
BATCH = 16
ACCUM = 4
EPOCHS = 3


class AllocateRanks(TrainerCallback):
    def on_optimizer_step(self, args, state, control, **kwargs):
        # gradients are still there: zero_grad comes after this event
        kwargs["model"].base_model.update_and_allocate(state.global_step)


def metrics(eval_pred):
    logits, labels = eval_pred
    return {"accuracy": float((np.argmax(logits, -1) == labels).mean())}


def main():
    tok = AutoTokenizer.from_pretrained(BASE)
    data = load_dataset("glue", "sst2").map(
        lambda r: tok(r["sentence"], truncation=True, max_length=96), batched=True)
    updates_per_epoch = math.ceil(math.ceil(len(data["train"]) / BATCH) / ACCUM)
    total = updates_per_epoch * EPOCHS

    model = AutoModelForSequenceClassification.from_pretrained(BASE, num_labels=2)
    model = get_peft_model(model, AdaLoraConfig(
        task_type="SEQ_CLS", init_r=12, target_r=8, tinit=200, tfinal=600, deltaT=10,
        total_step=total, target_modules=["query", "value"], orth_reg_weight=0.1))

    args = TrainingArguments(
        output_dir="sst2", per_device_train_batch_size=BATCH, gradient_accumulation_steps=ACCUM,
        max_steps=total, learning_rate=5e-4, eval_strategy="steps", eval_steps=500,
        logging_steps=100, save_total_limit=1)
    trainer = Trainer(model, args, train_dataset=data["train"], eval_dataset=data["validation"],
                      data_collator=DataCollatorWithPadding(tok), compute_metrics=metrics,
                      callbacks=[AllocateRanks()])
    trainer.train()
    trainer.model.save_pretrained("sst2/adapter")


if __name__ == "__main__":
    main()
