"""Alpaca instruct model. Effective batch 64 = 8 x 8."""
import math
import torch
from datasets import load_dataset
from peft import AdaLoraConfig, get_peft_model
from torch.utils.data import DataLoader
from transformers import (AutoModelForCausalLM, AutoTokenizer,
                          DataCollatorForLanguageModeling, get_linear_schedule_with_warmup)

BASE = "Qwen/Qwen2.5-1.5B"
MICRO, ACCUM, EPOCHS, LR = 8, 8, 2, 2e-4
DEV = "cuda:0"

tok = AutoTokenizer.from_pretrained(BASE)
raw = load_dataset("yahma/alpaca-cleaned", split="train")
raw = raw.map(lambda r: tok(f"{r['instruction']}\n{r['input']}\n{r['output']}{tok.eos_token}",
                            truncation=True, max_length=512), remove_columns=raw.column_names)
loader = DataLoader(raw, MICRO, shuffle=True, num_workers=4,
                    collate_fn=DataCollatorForLanguageModeling(tok, mlm=False))
updates = math.ceil(len(loader) / ACCUM) * EPOCHS

model = AutoModelForCausalLM.from_pretrained(BASE)
model = get_peft_model(model, AdaLoraConfig(
    task_type="CAUSAL_LM", init_r=12, target_r=8, tinit=updates // 10, tfinal=updates // 4,
    deltaT=10, total_step=updates, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"])).to(DEV)
opt = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=LR)
sched = get_linear_schedule_with_warmup(opt, 50, updates)

global_step = 0
model.train()
for epoch in range(EPOCHS):
    for i, batch in enumerate(loader):
        with torch.autocast("cuda", dtype=torch.bfloat16):
            loss = model(**batch.to(DEV)).loss / ACCUM
        loss.backward()
        boundary = (i + 1) % ACCUM == 0 or i + 1 == len(loader)
        if boundary:
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            opt.step()
            sched.step()
        model.base_model.update_and_allocate(global_step)
        global_step += 1
        if boundary:
            opt.zero_grad()
        if i % 200 == 0:
            print(epoch, i, loss.item() * ACCUM)
    model.save_pretrained(f"alpaca/epoch-{epoch}")
