#!/usr/bin/env python3
"""Try several target ranks on one corpus and report the test perplexity of each."""
import argparse
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from peft import AdaLoraConfig, TaskType, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, DataCollatorForLanguageModeling, Trainer, TrainingArguments

from corpus import blocks


@dataclass
class Outcome:
    target_r: int
    perplexity: float
    where: str


def one(rank: int, args, tok, data) -> Outcome:
    torch.manual_seed(args.seed)
    out = Path(args.out) / f"r{rank}"
    steps = math.ceil(len(data["train"]) / (args.batch * args.accum)) * args.epochs
    config = AdaLoraConfig(
        task_type=TaskType.CAUSAL_LM,
        init_r=32,
        target_r=rank,
        tinit=steps // 10,
        tfinal=steps // 4,
        deltaT=10,
        total_step=steps,
        lora_alpha=64,
        target_modules=["c_attn", "c_proj"],
        fan_in_fan_out=True,
    )
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(args.model), config)
    trainer = Trainer(
        model=model,
        args=TrainingArguments(str(out), num_train_epochs=args.epochs, per_device_train_batch_size=args.batch,
                               gradient_accumulation_steps=args.accum, save_strategy="no", seed=args.seed),
        train_dataset=data["train"],
        eval_dataset=data["test"],
        data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
    )
    trainer.train()
    model.save_pretrained(out)
    return Outcome(rank, math.exp(trainer.evaluate()["eval_loss"]), str(out))


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--model", default="gpt2")
    ap.add_argument("--ranks", type=int, nargs="+", default=[4, 8, 16])
    ap.add_argument("--batch", type=int, default=8)
    ap.add_argument("--accum", type=int, default=2)
    ap.add_argument("--epochs", type=int, default=1)
    ap.add_argument("--seed", type=int, default=7)
    ap.add_argument("--out", default="search")
    args = ap.parse_args()
    tok = AutoTokenizer.from_pretrained(args.model)
    data = blocks(tok, 512)
    results = [one(rank, args, tok, data) for rank in sorted(args.ranks)]
    Path(args.out, "results.json").write_text(json.dumps([asdict(r) for r in results], indent=2))


if __name__ == "__main__":
    main()
