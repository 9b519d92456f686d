"""Linguistic acceptability with LoRA or AdaLoRA at two parameter budgets."""
import argparse

import torch
from datasets import load_dataset
from peft import AdaLoraConfig, LoraConfig, TaskType, get_peft_model
from torch.utils.data import DataLoader
from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding

LAYERS = ["query_proj", "value_proj", "intermediate.dense"]
EPOCHS = 25
BATCH = 32


def adapter_for(kind: str, size: str, steps: int | None):
    if kind == "lora":
        rank = 2 if size == "tiny" else 8
        return LoraConfig(task_type=TaskType.SEQ_CLS, r=rank, lora_alpha=4 * rank, target_modules=LAYERS)
    if steps is None:
        raise ValueError("AdaLoRA wants to know the length of the run")
    final = 2 if size == "tiny" else 8
    return AdaLoraConfig(
        task_type=TaskType.SEQ_CLS,
        init_r=12,
        target_r=final,
        lora_alpha=8,
        target_modules=LAYERS,
        tinit=800,
        tfinal=3500,
        deltaT=10,
        total_step=steps,
    )


def run():
    cli = argparse.ArgumentParser()
    cli.add_argument("--kind", choices=["lora", "adalora"], required=True)
    cli.add_argument("--size", choices=["tiny", "big"], default="tiny")
    opt = cli.parse_args()

    name = "microsoft/deberta-v3-small"
    tok = AutoTokenizer.from_pretrained(name, use_fast=False)
    cola = load_dataset("glue", "cola").map(lambda ex: tok(ex["sentence"], truncation=True), batched=True)
    net = AutoModelForSequenceClassification.from_pretrained(name, num_labels=2)
    steps = (len(cola["train"]) // BATCH) * EPOCHS
    net = get_peft_model(net, adapter_for(opt.kind, opt.size, steps)).cuda()
    feed = DataLoader(cola["train"], BATCH, shuffle=True, drop_last=True, collate_fn=DataCollatorWithPadding(tok))
    adam = torch.optim.AdamW([p for p in net.parameters() if p.requires_grad], lr=5e-4)

    done = 0
    for epoch in range(EPOCHS):
        net.train()
        for minibatch in feed:
            done += 1
            out = net(**{k: v.cuda() for k, v in minibatch.items()})
            out.loss.backward()
            adam.step()
            if opt.kind == "adalora":
                tuner = getattr(net, "base_model", None)
                if tuner is not None and hasattr(tuner, "update_and_allocate"):
                    tuner.update_and_allocate(done)
            adam.zero_grad()
        net.save_pretrained(f"cola_{opt.kind}_{opt.size}/epoch{epoch}")


if __name__ == "__main__":
    run()
