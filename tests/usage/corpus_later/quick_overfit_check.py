"""Does every adapter overfit twenty quotes? A check to run before the long jobs."""
import sys

import torch
from datasets import load_dataset
from peft import AdaLoraConfig, LoraConfig, LoKrConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

MODEL = "facebook/opt-125m"
BATCH = 4
SAMPLES = 320

CONFIGS = {
    "lora": LoraConfig(task_type="CAUSAL_LM", r=8, target_modules=["q_proj", "v_proj"]),
    "lokr": LoKrConfig(task_type="CAUSAL_LM", r=8, target_modules=["q_proj", "v_proj"]),
    "adalora": AdaLoraConfig(
        task_type="CAUSAL_LM",
        init_r=6,
        target_r=4,
        lora_alpha=8,
        tinit=10,
        tfinal=20,
        deltaT=1,
        total_step=80,
        target_modules=["q_proj", "v_proj"],
    ),
}


def overfit(kind, bound=2.0):
    config = CONFIGS[kind]
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    quotes = load_dataset("Abirate/english_quotes", split="train")
    rows = [tokenizer(text) for text in quotes["quote"][:SAMPLES]]
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(MODEL), config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

    values = []
    for i in range(0, SAMPLES, BATCH):
        batch = tokenizer.pad(rows[i : i + BATCH], return_tensors="pt")
        optimizer.zero_grad()
        loss = model(**batch, labels=batch["input_ids"]).loss
        loss.backward()
        optimizer.step()
        values.append(loss.item())
        if isinstance(config, AdaLoraConfig):
            model.base_model.update_and_allocate(i)
    return values[-1] < bound


if __name__ == "__main__":
    failed = [kind for kind in CONFIGS if not overfit(kind)]
    sys.exit(f"does not learn: {failed}" if failed else 0)
