"""Causal LM with accelerate; loader is prepared before the AdaLoRA schedule is computed."""
import math

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from datasets import load_dataset
from peft import AdaLoraConfig, get_peft_model
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM, AutoTokenizer, DataCollatorForLanguageModeling

EPOCHS, ACCUM, BS, LR = 2, 8, 2, 5e-4
NAME = "Qwen/Qwen2.5-0.5B"


def main():
    accelerator = Accelerator(gradient_accumulation_steps=ACCUM, mixed_precision="bf16")
    set_seed(7)
    tok = AutoTokenizer.from_pretrained(NAME)
    with accelerator.main_process_first():
        ds = load_dataset("tatsu-lab/alpaca", split="train[:8000]")
        ds = ds.map(lambda b: tok(b["text"], truncation=True, max_length=512), batched=True,
                    remove_columns=ds.column_names)
    loader = DataLoader(ds, batch_size=BS, shuffle=True,
                        collate_fn=DataCollatorForLanguageModeling(tok, mlm=False))
    # after prepare() the length is the per-process one
    loader = accelerator.prepare(loader)
    total = math.ceil(len(loader) / ACCUM) * EPOCHS

    model = AutoModelForCausalLM.from_pretrained(NAME)
    model = get_peft_model(model, AdaLoraConfig(
        task_type="CAUSAL_LM", init_r=16, target_r=8,
        tinit=total // 10, tfinal=total // 4, deltaT=5,
        lora_alpha=32, total_step=total,
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj"],
    ))
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=LR)
    model, optimizer = accelerator.prepare(model, optimizer)

    done = 0
    for epoch in range(EPOCHS):
        model.train()
        for batch in loader:
            with accelerator.accumulate(model):
                loss = model(**batch).loss
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                if accelerator.sync_gradients:
                    accelerator.unwrap_model(model).base_model.update_and_allocate(done)
                    done += 1
                optimizer.zero_grad()
        accelerator.print(f"epoch {epoch}: {done}/{total}, last loss {loss.item():.3f}")

    accelerator.wait_for_everyone()
    accelerator.unwrap_model(model).save_pretrained(
        "qwen-adalora", is_main_process=accelerator.is_main_process, save_function=accelerator.save)


if __name__ == "__main__":
    main()
