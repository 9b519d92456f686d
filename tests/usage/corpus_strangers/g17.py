"""accelerate launch g17.py --epochs 3 --accum 4"""
import argparse
import math

import torch
from accelerate import Accelerator
from datasets import load_dataset
from peft import AdaLoraConfig, TaskType, get_peft_model
from torch.utils.data import DataLoader
from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding, get_scheduler


def make_loaders(name, bs):
    tok = AutoTokenizer.from_pretrained(name)
    ds = load_dataset("ag_news")
    ds = ds.map(lambda b: tok(b["text"], truncation=True, max_length=160), batched=True, remove_columns=["text"])
    ds = ds.rename_column("label", "labels")
    c = DataCollatorWithPadding(tok, pad_to_multiple_of=8)
    return DataLoader(ds["train"], bs, shuffle=True, collate_fn=c), DataLoader(ds["test"], 4 * bs, collate_fn=c)


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--name", default="roberta-base")
    ap.add_argument("--epochs", type=int, default=3)
    ap.add_argument("--accum", type=int, default=4)
    ap.add_argument("--bs", type=int, default=16)
    ap.add_argument("--lr", type=float, default=8e-4)
    a = ap.parse_args()

    acc = Accelerator(gradient_accumulation_steps=a.accum, log_with="tensorboard", project_dir="logs")
    acc.init_trackers("agnews")
    train, test = make_loaders(a.name, a.bs)
    per_process = math.ceil(len(train) / acc.num_processes)
    total = a.epochs * math.ceil(per_process / a.accum)

    model = AutoModelForSequenceClassification.from_pretrained(a.name, num_labels=4)
    model = get_peft_model(model, AdaLoraConfig(
        task_type=TaskType.SEQ_CLS, init_r=10, target_r=5, tinit=total // 10, tfinal=total // 4, deltaT=5,
        total_step=total, target_modules=["query", "value"], modules_to_save=["classifier"]))
    opt = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=a.lr)
    sched = get_scheduler("cosine", opt, 100 * acc.num_processes, total * acc.num_processes)
    model, opt, train, test, sched = acc.prepare(model, opt, train, test, sched)

    step = 0
    for epoch in range(a.epochs):
        model.train()
        for batch in train:
            with acc.accumulate(model):
                out = model(**batch)
                acc.backward(out.loss)
                opt.step()
                sched.step()
                if acc.sync_gradients:
                    acc.unwrap_model(model).base_model.update_and_allocate(step)
                    step += 1
                    acc.log({"loss": out.loss.item()}, step=step)
                opt.zero_grad()
        model.eval()
        good = n = 0
        for batch in test:
            with torch.no_grad():
                pred = model(**batch).logits.argmax(-1)
            p, y = acc.gather_for_metrics((pred, batch["labels"]))
            good += (p == y).sum().item()
            n += y.numel()
        acc.print(f"epoch {epoch} acc {good / n:.4f}")
    acc.wait_for_everyone()
    if acc.is_main_process:
        acc.unwrap_model(model).save_pretrained("agnews-adalora")
    acc.end_training()


if __name__ == "__main__":
    main()
