import argparse, torch
from torch.utils.data import DataLoader
from datasets import load_dataset
from transformers import AutoTokenizer, AutoModelForTokenClassification, DataCollatorForTokenClassification
from peft import AdaLoraConfig, get_peft_model, TaskType


def align(tok, ex):
    enc = tok(ex["tokens"], is_split_into_words=True, truncation=True)
    labs = []
    for i, tags in enumerate(ex["ner_tags"]):
        prev, row = None, []
        for w in enc.word_ids(i):
            row.append(-100 if w is None or w == prev else tags[w])
            prev = w
        labs.append(row)
    enc["labels"] = labs
    return enc


def train_epoch(model, loader, opt, dev, log_every):
    model.train()
    running = 0.0
    for step, batch in enumerate(loader):
        batch = {k: v.to(dev) for k, v in batch.items()}
        loss = model(**batch).loss
        loss.backward()
        opt.step()
        model.base_model.update_and_allocate(step)
        opt.zero_grad()
        running += loss.item()
        if step % log_every == log_every - 1:
            print(f"  step {step + 1} loss {running / log_every:.4f}")
            running = 0.0


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--epochs", type=int, default=5)
    ap.add_argument("--bs", type=int, default=16)
    ap.add_argument("--log-every", type=int, default=100)
    a = ap.parse_args()
    dev = "cuda"
    tok = AutoTokenizer.from_pretrained("bert-base-cased")
    ds = load_dataset("conll2003", trust_remote_code=True)
    tr = ds["train"].map(lambda e: align(tok, e), batched=True, remove_columns=ds["train"].column_names)
    loader = DataLoader(tr, a.bs, shuffle=True, collate_fn=DataCollatorForTokenClassification(tok))
    total = a.epochs * len(loader)
    model = AutoModelForTokenClassification.from_pretrained("bert-base-cased", num_labels=9)
    model = get_peft_model(model, AdaLoraConfig(
        task_type=TaskType.TOKEN_CLS, init_r=12, target_r=8, lora_alpha=32,
        target_modules=["query", "value"], tinit=int(.1 * total), tfinal=int(.25 * total),
        deltaT=10, total_step=total)).to(dev)
    opt = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    for ep in range(a.epochs):
        print("epoch", ep)
        train_epoch(model, loader, opt, dev, a.log_every)
    model.save_pretrained("ner-adalora")


if __name__ == "__main__":
    main()
