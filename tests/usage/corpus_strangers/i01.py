"""Fine-tune BERT on MRPC with AdaLoRA, bare PyTorch."""
import argparse

import torch
from datasets import load_dataset
from peft import AdaLoraConfig, TaskType, get_peft_model
from torch.utils.data import DataLoader
from transformers import (AutoModelForSequenceClassification, AutoTokenizer,
                          DataCollatorWithPadding, get_linear_schedule_with_warmup)


def parse_args():
    p = argparse.ArgumentParser()
    p.add_argument("--model", default="bert-base-uncased")
    p.add_argument("--epochs", type=int, default=5)
    p.add_argument("--bs", type=int, default=16)
    p.add_argument("--lr", type=float, default=1e-3)
    p.add_argument("--out", default="out/mrpc")
    return p.parse_args()


def build_loaders(tok, bs):
    ds = load_dataset("glue", "mrpc")
    ds = ds.map(lambda b: tok(b["sentence1"], b["sentence2"], truncation=True, max_length=128),
                batched=True, remove_columns=["sentence1", "sentence2", "idx"])
    ds = ds.rename_column("label", "labels")
    coll = DataCollatorWithPadding(tok)
    return (DataLoader(ds["train"], bs, shuffle=True, collate_fn=coll),
            DataLoader(ds["validation"], 64, collate_fn=coll))


@torch.no_grad()
def accuracy(model, loader, device):
    model.eval()
    hit = n = 0
    for batch in loader:
        batch = {k: v.to(device) for k, v in batch.items()}
        pred = model(**batch).logits.argmax(-1)
        hit += (pred == batch["labels"]).sum().item()
        n += len(pred)
    model.train()
    return hit / n


def main():
    args = parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tok = AutoTokenizer.from_pretrained(args.model)
    train_dl, val_dl = build_loaders(tok, args.bs)
    total = len(train_dl) * args.epochs

    cfg = AdaLoraConfig(task_type=TaskType.SEQ_CLS, init_r=12, target_r=6,
                        tinit=int(0.1 * total), tfinal=int(0.3 * total), deltaT=10,
                        total_step=total, lora_alpha=32, lora_dropout=0.05,
                        target_modules=["query", "key", "value"])
    model = AutoModelForSequenceClassification.from_pretrained(args.model, num_labels=2)
    model = get_peft_model(model, cfg).to(device)
    model.print_trainable_parameters()

    opt = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=args.lr)
    sched = get_linear_schedule_with_warmup(opt, int(0.06 * total), total)
    step = 0
    model.train()
    for epoch in range(args.epochs):
        for batch in train_dl:
            batch = {k: v.to(device) for k, v in batch.items()}
            loss = model(**batch).loss
            loss.backward()
            opt.step()
            sched.step()
            model.base_model.update_and_allocate(step)
            opt.zero_grad()
            step += 1
            if step % 50 == 0:
                print(f"{step}/{total} loss={loss.item():.4f}")
        print("epoch", epoch, "acc", accuracy(model, val_dl, device))
    model.save_pretrained(args.out)


if __name__ == "__main__":
    main()
