"""Second round of AdaLoRA training on fresh data, starting from the adapter of round one.

The ranks were settled in round one (rank_pattern is in adapter_config.json), so
nothing is allocated any more here; the adapter is only trained on.
"""
import argparse

import torch
from datasets import load_dataset
from peft import PeftModel
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM, AutoTokenizer, DataCollatorForLanguageModeling


def get_args():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("adapter")
    p.add_argument("--base", default="facebook/opt-1.3b")
    p.add_argument("--data", default="new_data.jsonl")
    p.add_argument("--epochs", type=int, default=1)
    p.add_argument("--lr", type=float, default=2e-4)
    p.add_argument("--out", default="round2")
    return p.parse_args()


def main():
    a = get_args()
    tok = AutoTokenizer.from_pretrained(a.base)
    base = AutoModelForCausalLM.from_pretrained(a.base, torch_dtype=torch.bfloat16)
    model = PeftModel.from_pretrained(base, a.adapter).to("cuda")

    ds = load_dataset("json", data_files=a.data, split="train")
    ds = ds.map(lambda b: tok(b["text"], truncation=True, max_length=512), batched=True,
                remove_columns=ds.column_names)
    dl = DataLoader(ds, batch_size=4, shuffle=True,
                    collate_fn=DataCollatorForLanguageModeling(tok, mlm=False))

    opt = torch.optim.AdamW(model.parameters(), lr=a.lr)
    model.train()
    for ep in range(a.epochs):
        for i, b in enumerate(dl):
            b = b.to("cuda")
            loss = model(**b).loss
            loss.backward()
            opt.step()
            opt.zero_grad()
            if i % 20 == 0:
                print(ep, i, round(loss.item(), 4))
    model.save_pretrained(a.out)


if __name__ == "__main__":
    main()
