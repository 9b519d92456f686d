"""Continue fine-tuning a published AdaLoRA adapter (saved in its warm-up phase) on in-house tickets."""
import argparse
import json
from pathlib import Path

import torch
from peft import PeftModel
from torch.utils.data import DataLoader, Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer


class Tickets(Dataset):
    def __init__(self, path):
        self.rows = [json.loads(l) for l in Path(path).read_text().splitlines() if l]

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        r = self.rows[i]
        return f"### Ticket\n{r['ticket']}\n### Reply\n{r['reply']}"


def collate_with(tok):
    def f(texts):
        b = tok([t + tok.eos_token for t in texts], return_tensors="pt", padding=True, truncation=True, max_length=1024)
        b["labels"] = b["input_ids"].clone()
        b["labels"][b["attention_mask"] == 0] = -100
        return b
    return f


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--base", default="EleutherAI/pythia-1b")
    ap.add_argument("--adapter", required=True)
    ap.add_argument("--start_step", type=int, required=True)
    ap.add_argument("--data", default="tickets.jsonl")
    ap.add_argument("--lr", type=float, default=3e-4)
    ap.add_argument("--out", default="tickets-adalora")
    a = ap.parse_args()

    tok = AutoTokenizer.from_pretrained(a.base)
    tok.pad_token = tok.eos_token
    loader = DataLoader(Tickets(a.data), batch_size=4, shuffle=True, collate_fn=collate_with(tok))
    base = AutoModelForCausalLM.from_pretrained(a.base)
    model = PeftModel.from_pretrained(base, a.adapter)
    model.to("cuda").train()
    total = model.peft_config["default"].total_step

    optimizer = torch.optim.AdamW(model.parameters(), lr=a.lr)
    step = a.start_step
    while step < total:
        for batch in loader:
            loss = model(**batch.to("cuda")).loss
            loss.backward()
            optimizer.step()
            step += 1
            model.base_model.update_and_allocate(step)
            optimizer.zero_grad()
            if step % 25 == 0:
                print(step, total, loss.item())
            if step >= total:
                break
    model.save_pretrained(a.out)


if __name__ == "__main__":
    main()
