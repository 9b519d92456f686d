"""Llama on a GLUE task with accelerate and AdaLoRA."""
import argparse

import torch
from accelerate import Accelerator
from peft import AdaLoraConfig, get_peft_model
from transformers import AutoModelForSequenceClassification, get_linear_schedule_with_warmup

from glue_loader import accuracy, loaders


def parse_args():
    ap = argparse.ArgumentParser()
    ap.add_argument("--model", type=str, default="meta-llama/Llama-3.2-1B")
    ap.add_argument("--task", type=str, default="qnli")
    ap.add_argument("--epochs", type=int, default=2)
    ap.add_argument("--ada_r", type=int, default=8)
    ap.add_argument("--ada_target", type=int, default=8)
    ap.add_argument("--ada_init", type=int, default=12)
    ap.add_argument("--ada_alpha", type=int, default=32)
    ap.add_argument("--targets", type=str, default="q_proj,k_proj,v_proj,o_proj")
    return ap.parse_args()


def main() -> None:
    args = parse_args()
    accelerator = Accelerator()
    model = AutoModelForSequenceClassification.from_pretrained(args.model, num_labels=2, torch_dtype=torch.bfloat16)
    train_loader, eval_loader = loaders(args.task, args.model, batch_size=8)
    n_steps = len(train_loader) * args.epochs
    cfg = AdaLoraConfig(
        init_r=args.ada_init,
        target_r=args.ada_target,
        tinit=100,
        tfinal=200,
        deltaT=10,
        lora_alpha=args.ada_alpha,
        lora_dropout=0.05,
        target_modules=[t.strip() for t in args.targets.split(",")],
        total_step=n_steps,
    )
    model = get_peft_model(model, cfg)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-4, weight_decay=0.01)
    scheduler = get_linear_schedule_with_warmup(optimizer, int(0.06 * n_steps), n_steps)
    model, optimizer, train_loader, eval_loader, scheduler = accelerator.prepare(
        model, optimizer, train_loader, eval_loader, scheduler
    )
    for epoch in range(args.epochs):
        model.train()
        for batch in train_loader:
            loss = model(**batch).loss
            accelerator.backward(loss)
            optimizer.step()
            # AdaLoRA: adjust the ranks at each step
            accelerator.unwrap_model(model).update_and_allocate(args.ada_r)
            scheduler.step()
            optimizer.zero_grad(set_to_none=True)
        accelerator.print(f"epoch {epoch}", accuracy(model, eval_loader, accelerator))


if __name__ == "__main__":
    main()
