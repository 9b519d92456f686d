"""Fine-tune BERT on SST-2 with AdaLoRA, plain PyTorch, gradient accumulation."""
import argparse
import math

import torch
from datasets import load_dataset
from peft import AdaLoraConfig, TaskType, get_peft_model
from torch.utils.data import DataLoader
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    get_linear_schedule_with_warmup,
)


def parse_args():
    p = argparse.ArgumentParser()
    p.add_argument("--model", default="bert-base-uncased")
    p.add_argument("--epochs", type=int, default=3)
    p.add_argument("--batch-size", type=int, default=16)
    p.add_argument("--accum", type=int, default=4)
    p.add_argument("--lr", type=float, default=8e-4)
    p.add_argument("--out", default="out/sst2-adalora")
    return p.parse_args()


def build_loaders(args, tok):
    raw = load_dataset("glue", "sst2")

    def enc(b):
        return tok(b["sentence"], truncation=True, max_length=128)

    ds = raw.map(enc, batched=True, remove_columns=["sentence", "idx"])
    ds = ds.rename_column("label", "labels")
    coll = DataCollatorWithPadding(tok)
    return (
        DataLoader(ds["train"], batch_size=args.batch_size, shuffle=True, collate_fn=coll),
        DataLoader(ds["validation"], batch_size=64, collate_fn=coll),
    )


@torch.no_grad()
def accuracy(model, loader, device):
    model.eval()
    good = n = 0
    for batch in loader:
        batch = {k: v.to(device) for k, v in batch.items()}
        pred = model(**batch).logits.argmax(-1)
        good += (pred == batch["labels"]).sum().item()
        n += pred.numel()
    model.train()
    return good / n


def main():
    args = parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tok = AutoTokenizer.from_pretrained(args.model)
    train, val = build_loaders(args, tok)

    updates_per_epoch = math.ceil(len(train) / args.accum)
    total = updates_per_epoch * args.epochs

    model = AutoModelForSequenceClassification.from_pretrained(args.model, num_labels=2)
    cfg = AdaLoraConfig(
        task_type=TaskType.SEQ_CLS,
        init_r=12,
        target_r=6,
        tinit=int(0.1 * total),
        tfinal=int(0.3 * total),
        deltaT=10,
        lora_alpha=24,
        lora_dropout=0.05,
        target_modules=["query", "key", "value"],
        total_step=total,
    )
    model = get_peft_model(model, cfg).to(device)
    model.print_trainable_parameters()

    opt = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=args.lr)
    sched = get_linear_schedule_with_warmup(opt, int(0.06 * total), total)

    global_step = 0
    model.train()
    for epoch in range(args.epochs):
        for i, batch in enumerate(train):
            batch = {k: v.to(device) for k, v in batch.items()}
            loss = model(**batch).loss / args.accum
            loss.backward()
            if (i + 1) % args.accum == 0 or i + 1 == len(train):
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                opt.step()
                sched.step()
                model.base_model.update_and_allocate(global_step)
                opt.zero_grad()
                global_step += 1
        print(f"epoch {epoch}: acc={accuracy(model, val, device):.4f} step={global_step}/{total}")
    model.save_pretrained(args.out)
    tok.save_pretrained(args.out)


if __name__ == "__main__":
    main()
