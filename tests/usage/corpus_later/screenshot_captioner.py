#!/usr/bin/env python
# Caption UI screenshots; only the language model gets an adapter, vision stays frozen.
import random
import time

import torch
from peft import AdaLoraConfig, get_peft_model
from torch.utils.data import DataLoader
from transformers import Blip2ForConditionalGeneration, Blip2Processor

from ui_data import Screens

SEED, EPOCHS, BATCH = 17, 4, 2
LR = 1e-4
DEVICE = "cuda"

random.seed(SEED)
torch.manual_seed(SEED)

processor = Blip2Processor.from_pretrained("Salesforce/blip2-opt-2.7b")
blip = Blip2ForConditionalGeneration.from_pretrained("Salesforce/blip2-opt-2.7b")
for part in (blip.vision_model, blip.qformer):
    part.requires_grad_(False)

data = Screens("screens.csv", processor, limit=2000)
loader = DataLoader(data, batch_size=BATCH, shuffle=True, collate_fn=data.collate)
TOTAL = len(loader) * EPOCHS  # one optimizer step for each batch

cfg = AdaLoraConfig(
    init_r=8,
    target_r=4,
    total_step=TOTAL,
    tinit=200,
    tfinal=600,
    deltaT=20,
    lora_alpha=16,
    lora_dropout=0.05,
    target_modules=r".*language_model.*\.(q_proj|v_proj)",
)
blip = get_peft_model(blip, cfg).to(DEVICE)
opt = torch.optim.AdamW(filter(lambda p: p.requires_grad, blip.parameters()), lr=LR)
scaler = torch.amp.GradScaler("cuda")

history, n, begun = [], 0, time.time()
for ep in range(EPOCHS):
    for batch in loader:
        batch = {k: v.to(DEVICE) for k, v in batch.items()}
        with torch.autocast("cuda", dtype=torch.float16):
            loss = blip(**batch).loss
        scaler.scale(loss).backward()
        scaler.step(opt)
        scaler.update()
        blip.base_model.update_and_allocate(n)
        opt.zero_grad(set_to_none=True)
        n += 1
        history.append(loss.item())
    print(f"[{ep}] {sum(history[-len(loader):]) / len(loader):.4f} ({time.time() - begun:.0f}s)")
blip.save_pretrained("screens-adapter")
