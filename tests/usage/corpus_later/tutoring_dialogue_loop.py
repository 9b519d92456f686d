"""Train a tutor that answers pupils' questions (plain PyTorch, one GPU)."""
import logging

import torch
from datasets import load_from_disk
from peft import AdaLoraConfig, get_peft_model
from torch.optim import AdamW
from torch.utils.data import DataLoader
from tqdm import tqdm
from transformers import AutoModelForCausalLM, AutoTokenizer, default_data_collator

logging.basicConfig(level=logging.INFO)
log = logging.getLogger("tutor")

EPOCHS = 5
BATCH = 8
NAME = "EleutherAI/pythia-410m"


def build(total):
    model = AutoModelForCausalLM.from_pretrained(NAME)
    cfg = AdaLoraConfig(
        task_type="CAUSAL_LM",
        init_r=12,
        target_r=8,
        beta1=0.9,
        beta2=0.9,
        tinit=100,
        tfinal=400,
        deltaT=10,
        lora_alpha=24,
        target_modules=["query_key_value"],
        total_step=total,
    )
    return get_peft_model(model, cfg)


def train():
    tok = AutoTokenizer.from_pretrained(NAME)
    rows = load_from_disk("tutoring").with_format("torch")
    loader = DataLoader(rows, BATCH, shuffle=True, collate_fn=default_data_collator)
    model = build(EPOCHS * len(loader)).to("cuda")
    optim = AdamW(model.parameters(), lr=1e-3)

    for epoch in range(EPOCHS):
        model.train()
        running = 0.0
        for step, batch in enumerate(tqdm(loader, desc=f"epoch {epoch + 1}")):
            batch = {key: value.to("cuda") for key, value in batch.items()}
            loss = model(**batch).loss
            loss.backward()
            optim.step()
            model.base_model.update_and_allocate(step)
            optim.zero_grad()
            running += loss.item()
            if step % 100 == 0:
                pattern = model.peft_config["default"].rank_pattern
                log.info("step %d loss %.3f pattern %s", step, running / (step + 1), pattern is not None)
        model.save_pretrained(f"tutor/epoch{epoch}")
        tok.save_pretrained(f"tutor/epoch{epoch}")


if __name__ == "__main__":
    train()
