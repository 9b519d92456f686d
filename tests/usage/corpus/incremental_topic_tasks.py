import argparse
import math

import torch
from peft import AdaLoraConfig, LoraConfig, TaskType, get_peft_model
from transformers import AutoModelForCausalLM, get_linear_schedule_with_warmup

from topic_stream import topic_loader


def make_update(optimizer, scheduler, scaler, model, limit):
    scaler.unscale_(optimizer)
    torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], limit)
    scaler.step(optimizer)
    scaler.update()
    scheduler.step()
    optimizer.zero_grad(set_to_none=True)


def allocate_if_adaptive(model, method, step):
    if method == "adalora" and hasattr(model, "update_and_allocate"):
        model.update_and_allocate(step)


def learn_topic(model, loader, args, total):
    model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=args.lr)
    scheduler = get_linear_schedule_with_warmup(optimizer, total // 20, total)
    scaler = torch.amp.GradScaler("cuda", enabled=args.fp16)
    done, seen = 0, 0
    while done < total:
        for batch in loader:
            with torch.autocast("cuda", enabled=args.fp16):
                loss = model(**batch.to("cuda")).loss / args.accumulation
            scaler.scale(loss).backward()
            seen += 1
            if seen % args.accumulation == 0:
                allocate_if_adaptive(model, args.method, done)
                make_update(optimizer, scheduler, scaler, model, args.limit)
                done += 1
                if done >= total:
                    break


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--method", choices=["lora", "adalora"], default="adalora")
    parser.add_argument("--accumulation", type=int, default=4)
    parser.add_argument("--limit", type=float, default=1.0)
    parser.add_argument("--lr", type=float, default=2e-4)
    parser.add_argument("--fp16", action="store_true")
    args = parser.parse_args()
    loader = topic_loader("politics", batch_size=4)
    total = math.ceil(len(loader) / args.accumulation) * 2
    shared = dict(task_type=TaskType.CAUSAL_LM, lora_alpha=32, target_modules=["q_proj", "v_proj"])
    if args.method == "adalora":
        config = AdaLoraConfig(init_r=12, target_r=6, tinit=total // 10, tfinal=total // 4, total_step=total, **shared)
    else:
        config = LoraConfig(r=8, **shared)
    learn_topic(get_peft_model(AutoModelForCausalLM.from_pretrained("Qwen/Qwen2.5-0.5B").cuda(), config), loader, args, total)
