import math
from dataclasses import dataclass, field
from typing import List

import torch
from datasets import load_dataset
from peft import AdaLoraConfig, get_peft_model
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM, AutoTokenizer, DataCollatorForLanguageModeling


@dataclass
class Settings:
    base: str = "HuggingFaceTB/SmolLM2-360M"
    epochs: int = 3
    micro: int = 4
    accum: int = 8
    lr: float = 3e-4
    warm: float = 0.1
    final: float = 0.3
    targets: List[str] = field(default_factory=lambda: ["q_proj", "k_proj", "v_proj", "o_proj", "down_proj"])


class AdaptiveStepper:
    """Bundles optimizer, scheduler and rank allocation: one .update() is one optimizer step."""

    def __init__(self, model, lr, total):
        self.model = model
        self.params = [p for p in model.parameters() if p.requires_grad]
        self.opt = torch.optim.AdamW(self.params, lr=lr)
        self.sched = torch.optim.lr_scheduler.CosineAnnealingLR(self.opt, total)
        self.n = 0

    def update(self):
        torch.nn.utils.clip_grad_norm_(self.params, 1.0)
        self.opt.step()
        self.sched.step()
        self.model.base_model.update_and_allocate(self.n)
        self.opt.zero_grad(set_to_none=True)
        self.n += 1
        return self.n


def batches(tok, s):
    ds = load_dataset("Salesforce/wikitext", "wikitext-2-raw-v1", split="train")
    ds = ds.filter(lambda r: len(r["text"]) > 50)
    ds = ds.map(lambda b: tok(b["text"], truncation=True, max_length=384), batched=True, remove_columns=["text"])
    return DataLoader(ds, s.micro, shuffle=True, collate_fn=DataCollatorForLanguageModeling(tok, mlm=False))


def main():
    s = Settings()
    tok = AutoTokenizer.from_pretrained(s.base)
    tok.pad_token = tok.eos_token
    dl = batches(tok, s)
    total = s.epochs * math.ceil(len(dl) / s.accum)
    cfg = AdaLoraConfig(task_type="CAUSAL_LM", init_r=12, target_r=8, deltaT=5, total_step=total,
                        tinit=int(s.warm * total), tfinal=int(s.final * total),
                        target_modules=s.targets)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(s.base), cfg).to("cuda").train()
    stepper = AdaptiveStepper(model, s.lr, total)
    for epoch in range(s.epochs):
        for i, batch in enumerate(dl, 1):
            loss = model(**batch.to("cuda")).loss
            (loss / s.accum).backward()
            if i % s.accum == 0 or i == len(dl):
                n = stepper.update()
                if n % 20 == 0:
                    print(f"{n}/{total}  {loss.item():.3f}")
        model.save_pretrained(f"smol/e{epoch}")
    assert stepper.n == total


if __name__ == "__main__":
    main()
