from dataclasses import dataclass, field
from typing import List

import torch
from datasets import load_dataset
from peft import AdaLoraConfig, get_peft_model
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM, AutoTokenizer


@dataclass
class Settings:
    model: str = "bigscience/bloom-560m"
    epochs: int = 3
    micro_bs: int = 2
    accum: int = 8
    lr: float = 5e-4
    targets: List[str] = field(default_factory=lambda: ["query_key_value"])


class AdaStepper:
    """One object that owns everything that happens at an optimizer step."""

    def __init__(self, model, optimizer, accum, max_norm=1.0):
        self.model, self.optimizer, self.accum, self.max_norm = model, optimizer, accum, max_norm
        self.micro = 0
        self.steps = 0

    def __call__(self, loss):
        (loss / self.accum).backward()
        self.micro += 1
        if self.micro < self.accum:
            return False
        self._apply()
        return True

    def _apply(self):
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.max_norm)
        self.optimizer.step()
        self.steps += 1
        self.model.base_model.update_and_allocate(self.steps)
        self.optimizer.zero_grad(set_to_none=True)
        self.micro = 0


def build(s, total):
    net = AutoModelForCausalLM.from_pretrained(s.model)
    cfg = AdaLoraConfig(task_type="CAUSAL_LM", init_r=12, target_r=8, tinit=total // 10, tfinal=total // 5, deltaT=2,
                        total_step=total, lora_alpha=24, target_modules=s.targets)
    return get_peft_model(net, cfg)


def main(s=Settings()):
    tok = AutoTokenizer.from_pretrained(s.model)
    ds = load_dataset("Abirate/english_quotes", split="train")

    def coll(rows):
        b = tok([r["quote"] for r in rows], padding=True, truncation=True, max_length=128, return_tensors="pt")
        b["labels"] = b["input_ids"].masked_fill(b["attention_mask"].eq(0), -100)
        return b

    loader = DataLoader(ds, s.micro_bs, shuffle=True, collate_fn=coll)
    # leftover micro batches are carried into the next epoch
    total = len(loader) * s.epochs // s.accum
    model = build(s, total).cuda()
    opt = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=s.lr)
    stepper = AdaStepper(model, opt, s.accum)
    model.train()
    for e in range(s.epochs):
        for b in loader:
            loss = model(**b.to("cuda")).loss
            if stepper(loss) and stepper.steps % 10 == 0:
                print(e, stepper.steps, total, float(loss))
    model.save_pretrained("quotes")


if __name__ == "__main__":
    main()
