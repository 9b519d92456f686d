"""LLM fine-tuning with resumable checkpoints (preemptible nodes)."""
import argparse
import os

import torch
from datasets import load_from_disk
from peft import AdaLoraConfig, get_peft_model
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM, default_data_collator, get_cosine_schedule_with_warmup

ap = argparse.ArgumentParser()
ap.add_argument("--model", default="Qwen/Qwen2.5-1.5B")
ap.add_argument("--data", default="data/packed")
ap.add_argument("--epochs", type=int, default=4)
ap.add_argument("--bs", type=int, default=4)
ap.add_argument("--lr", type=float, default=2e-4)
ap.add_argument("--ckpt", default="ckpt.pt")
args = ap.parse_args()

ds = load_from_disk(args.data)
loader = DataLoader(ds, args.bs, shuffle=True, collate_fn=default_data_collator)
total = args.epochs * len(loader)

model = AutoModelForCausalLM.from_pretrained(args.model, torch_dtype=torch.bfloat16)
model = get_peft_model(model, AdaLoraConfig(
    task_type="CAUSAL_LM", init_r=16, target_r=8, tinit=total // 10, tfinal=total // 4, deltaT=10,
    total_step=total, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"])).cuda()
opt = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=args.lr)
sched = get_cosine_schedule_with_warmup(opt, 100, total)


def trainable_state():
    return {n: p.detach().cpu() for n, p in model.named_parameters() if p.requires_grad}


def save(epoch, allocator):
    torch.save({"weights": trainable_state(), "opt": opt.state_dict(), "sched": sched.state_dict(), "epoch": epoch,
                "ipt": (allocator.ipt, allocator.exp_avg_ipt, allocator.exp_avg_unc),
                "rank_pattern": model.peft_config["default"].rank_pattern}, args.ckpt + ".tmp")
    os.replace(args.ckpt + ".tmp", args.ckpt)


allocator = model.base_model.rankallocator
start_epoch = 0
if os.path.exists(args.ckpt):
    st = torch.load(args.ckpt, map_location="cuda", weights_only=False)
    model.load_state_dict(st["weights"], strict=False)
    opt.load_state_dict(st["opt"])
    sched.load_state_dict(st["sched"])
    allocator.ipt, allocator.exp_avg_ipt, allocator.exp_avg_unc = st["ipt"]
    model.peft_config["default"].rank_pattern = st["rank_pattern"]
    start_epoch = st["epoch"]
    print("resumed at epoch", start_epoch)

global_step = 0
for epoch in range(start_epoch, args.epochs):
    model.train()
    for batch in loader:
        batch = {k: v.cuda() for k, v in batch.items()}
        loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        sched.step()
        global_step += 1
        model.base_model.update_and_allocate(global_step)
        opt.zero_grad()
        if global_step % 20 == 0:
            print(epoch, global_step, f"{loss.item():.4f}", f"{sched.get_last_lr()[0]:.2e}")
    save(epoch + 1, allocator)

model.save_pretrained("qwen-adalora")
