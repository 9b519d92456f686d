"""Measure loss, time and memory of an adapter on the arithmetic task."""
import argparse
import time

import torch
from peft import AdaLoraConfig, PeftConfig, get_peft_model
from transformers import AutoModelForCausalLM, get_cosine_schedule_with_warmup

from bench_data import BatchIterator


def train(model, batches, *, max_steps, lr, clip):
    is_adalora = any(isinstance(c, AdaLoraConfig) for c in model.peft_config.values())
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    schedule = get_cosine_schedule_with_warmup(optimizer, 50, max_steps)
    scaler = torch.amp.GradScaler("cuda")
    losses, seconds = [], []
    for step, batch in zip(range(1, max_steps + 1), batches):
        begin = time.perf_counter()
        optimizer.zero_grad()
        with torch.autocast("cuda"):
            loss = model(**batch).loss
        scaler.scale(loss).backward()
        if clip:
            scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        scaler.step(optimizer)
        scaler.update()
        schedule.step()
        if is_adalora:
            model.base_model.update_and_allocate(step)
        losses.append(loss.item())
        seconds.append(time.perf_counter() - begin)
        if step % 250 == 0:
            print(f"{step:6d}  loss {sum(losses[-250:]) / 250:.4f}")
    return losses, seconds


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("experiment", help="folder with an adapter_config.json")
    folder = parser.parse_args().experiment
    base = AutoModelForCausalLM.from_pretrained("meta-llama/Llama-3.2-3B").cuda()
    model = get_peft_model(base, PeftConfig.from_pretrained(folder))
    train(model, BatchIterator("train", size=4), max_steps=5000, lr=1e-4, clip=1.0)
