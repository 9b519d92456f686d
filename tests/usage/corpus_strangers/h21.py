from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from datasets import load_dataset
from peft import AdaLoraConfig, PeftModel, get_peft_model
from torch.utils.data import DataLoader
from transformers import AutoModelForTokenClassification, AutoTokenizer, DataCollatorForTokenClassification

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    epochs: int
    batches_per_epoch: int
    accumulate: int = 1

    @property
    def updates_per_epoch(self) -> int:
        return math.ceil(self.batches_per_epoch / self.accumulate)

    @property
    def total(self) -> int:
        return self.epochs * self.updates_per_epoch


class Fitter:
    """Owns model, optimizer and the step counter; `update()` is the only place that steps."""

    def __init__(self, model: PeftModel, plan: Plan, lr: float, device: str):
        self.model = model.to(device)
        self.plan = plan
        self.device = device
        self.optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=lr)
        self.updates = 0

    def update(self) -> None:
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.model.base_model.update_and_allocate(self.updates)
        self.optimizer.zero_grad()
        self.updates += 1

    def fit(self, loader: DataLoader) -> None:
        for epoch in range(self.plan.epochs):
            self.model.train()
            pending = 0
            for batch in loader:
                batch = batch.to(self.device)
                loss = self.model(**batch).loss
                (loss / self.plan.accumulate).backward()
                pending += 1
                if pending == self.plan.accumulate:
                    self.update()
                    pending = 0
            if pending:
                self.update()
            logger.info("epoch %d, %d/%d updates, loss %.4f", epoch, self.updates, self.plan.total, loss.item())

    def save(self, where: Path) -> None:
        self.model.save_pretrained(where)


def tokenise(tok, ex):
    enc = tok(ex["tokens"], is_split_into_words=True, truncation=True)
    enc["labels"] = [
        [-100 if w is None else tags[w] for w in enc.word_ids(i)] for i, tags in enumerate(ex["ner_tags"])
    ]
    return enc


def main() -> None:
    logging.basicConfig(level=logging.INFO)
    ckpt = "FacebookAI/xlm-roberta-base"
    tok = AutoTokenizer.from_pretrained(ckpt)
    ds = load_dataset("unimelb-nlp/wikiann", "de", split="train")
    ds = ds.map(lambda e: tokenise(tok, e), batched=True, remove_columns=ds.column_names)
    loader = DataLoader(ds, 16, shuffle=True, collate_fn=DataCollatorForTokenClassification(tok))
    plan = Plan(epochs=3, batches_per_epoch=len(loader), accumulate=2)
    model = get_peft_model(
        AutoModelForTokenClassification.from_pretrained(ckpt, num_labels=7),
        AdaLoraConfig(
            task_type="TOKEN_CLS", init_r=12, target_r=6, lora_alpha=24,
            target_modules=["query", "key", "value"],
            tinit=plan.total // 10, tfinal=plan.total // 4, deltaT=10, total_step=plan.total,
        ),
    )
    fitter = Fitter(model, plan, lr=6e-4, device="cuda")
    fitter.fit(loader)
    fitter.save(Path("wikiann-de-adalora"))


if __name__ == "__main__":
    main()
