"""Accelerate + gradient accumulation on several GPUs.

    accelerate launch --num_processes 4 i07.py
"""
import math

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from datasets import load_dataset
from peft import AdaLoraConfig, get_peft_model
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM, AutoTokenizer, DataCollatorForLanguageModeling

BASE, EPOCHS, GA = "facebook/opt-350m", 3, 4


def main():
    set_seed(0)
    acc = Accelerator(gradient_accumulation_steps=GA, mixed_precision="bf16")
    tok = AutoTokenizer.from_pretrained(BASE)
    with acc.main_process_first():
        ds = load_dataset("Abirate/english_quotes", split="train")
        ds = ds.map(lambda b: tok(b["quote"], truncation=True, max_length=128),
                    batched=True, remove_columns=ds.column_names)
    loader = DataLoader(ds, batch_size=2, shuffle=True,
                        collate_fn=DataCollatorForLanguageModeling(tok, mlm=False))
    # prepared first: its length is then this process's share
    loader = acc.prepare(loader)
    updates = math.ceil(len(loader) / GA)
    total = updates * EPOCHS

    model = AutoModelForCausalLM.from_pretrained(BASE)
    model = get_peft_model(model, AdaLoraConfig(
        task_type="CAUSAL_LM", init_r=12, target_r=6, total_step=total,
        tinit=total // 10, tfinal=total // 4, deltaT=2,
        target_modules=["q_proj", "k_proj", "v_proj", "out_proj"]))
    opt = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-4)
    model, opt = acc.prepare(model, opt)

    done = 0
    for epoch in range(EPOCHS):
        model.train()
        for batch in loader:
            with acc.accumulate(model):
                loss = model(**batch).loss
                acc.backward(loss)
                opt.step()
                if acc.sync_gradients:
                    acc.unwrap_model(model).base_model.update_and_allocate(done)
                    done += 1
                opt.zero_grad()
        acc.print(f"epoch {epoch}: {done}/{total} updates, loss {loss.item():.3f}")

    acc.wait_for_everyone()
    if acc.is_main_process:
        acc.unwrap_model(model).save_pretrained("quotes-adapter")


if __name__ == "__main__":
    main()
