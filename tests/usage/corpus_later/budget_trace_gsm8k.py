import argparse
import json
from itertools import cycle
from pathlib import Path

import torch
from peft import AdaLoraConfig, get_peft_model
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM

from maths_data import word_problems


def get_args():
    ap = argparse.ArgumentParser()
    ap.add_argument("--max-steps", type=int, required=True)
    ap.add_argument("--amp", action="store_true")
    ap.add_argument("--clip", type=float, default=1.0)
    ap.add_argument("--trace", type=Path, default=Path("budget.jsonl"))
    return ap.parse_args()


def main():
    a = get_args()
    model = AutoModelForCausalLM.from_pretrained("meta-llama/Llama-3.2-1B").cuda()
    warm = a.max_steps // 10
    config = AdaLoraConfig(
        task_type="CAUSAL_LM", init_r=16, target_r=8, lora_alpha=32, deltaT=10,
        tinit=warm, tfinal=2 * warm, total_step=a.max_steps,
        target_modules=["q_proj", "v_proj", "up_proj", "down_proj"],
    )
    model = get_peft_model(model, config)
    params = [p for p in model.parameters() if p.requires_grad]
    opt = torch.optim.AdamW(params, lr=5e-4)
    scaler = torch.amp.GradScaler(enabled=a.amp)
    stream = cycle(DataLoader(word_problems("train"), batch_size=8, shuffle=True))

    seen = None
    for step in range(1, a.max_steps + 1):
        opt.zero_grad()
        batch = {k: v.cuda() for k, v in next(stream).items()}
        with torch.autocast("cuda", enabled=a.amp):
            loss = model(**batch).loss
        scaler.scale(loss).backward()
        if a.clip > 0:
            scaler.unscale_(opt)
            torch.nn.utils.clip_grad_norm_(params, a.clip)
        if a.amp:
            scaler.step(opt)
            scaler.update()
        else:
            opt.step()
        # the gradients live until the next zero_grad()
        model.base_model.update_and_allocate(step)
        budget = model.base_model.rankallocator.budget_schedule(step)[0]
        if budget != seen:
            with a.trace.open("a") as fh:
                fh.write(json.dumps({"step": step, "budget": int(budget)}) + "\n")
            seen = budget


if __name__ == "__main__":
    main()
