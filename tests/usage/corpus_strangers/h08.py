"""Train GPT-2 on WikiText with AdaLoRA (large effective batch via accumulation)."""
import logging

import torch
from datasets import load_dataset
from peft import AdaLoraConfig, get_peft_model
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM, AutoTokenizer, get_cosine_schedule_with_warmup

logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
log = logging.getLogger("wt2")

EPOCHS = 3
BATCH = 4
ACCUM = 16
BLOCK = 512
device = torch.device("cuda")


def chunks(tok):
    raw = load_dataset("wikitext", "wikitext-2-raw-v1", split="train")
    ids = []
    for t in raw["text"]:
        ids.extend(tok(t)["input_ids"])
    n = len(ids) // BLOCK
    return torch.tensor(ids[: n * BLOCK]).view(n, BLOCK)


tok = AutoTokenizer.from_pretrained("gpt2")
loader = DataLoader(chunks(tok), batch_size=BATCH, shuffle=True, drop_last=True)
num_training_steps = len(loader) * EPOCHS

model = AutoModelForCausalLM.from_pretrained("gpt2")
config = AdaLoraConfig(
    task_type="CAUSAL_LM",
    target_modules=["c_attn"],
    fan_in_fan_out=True,
    init_r=12,
    target_r=6,
    tinit=50,
    tfinal=300,
    deltaT=1,
    lora_alpha=32,
    total_step=num_training_steps,
)
model = get_peft_model(model, config).to(device)
optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4)
scheduler = get_cosine_schedule_with_warmup(optimizer, 20, num_training_steps // ACCUM)

global_step = 0
model.train()
for epoch in range(EPOCHS):
    optimizer.zero_grad()
    for i, ids in enumerate(loader, start=1):
        ids = ids.to(device)
        loss = model(input_ids=ids, labels=ids).loss
        (loss / ACCUM).backward()
        if i % ACCUM == 0:
            optimizer.step()
            scheduler.step()
            model.base_model.update_and_allocate(global_step)
            optimizer.zero_grad()
            global_step += 1
            if global_step % 10 == 0:
                log.info("epoch %d update %d loss %.3f", epoch, global_step, loss.item())
    model.save_pretrained(f"gpt2-adalora/epoch{epoch}")
