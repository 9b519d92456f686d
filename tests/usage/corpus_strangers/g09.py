"""AdaLoRA SFT of Mistral with accelerate and gradient accumulation."""
import argparse

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from datasets import load_dataset
from peft import AdaLoraConfig, get_peft_model
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM, AutoTokenizer, DataCollatorForLanguageModeling


def get_args():
    ap = argparse.ArgumentParser()
    ap.add_argument("--model", default="mistralai/Mistral-7B-v0.1")
    ap.add_argument("--epochs", type=int, default=2)
    ap.add_argument("--bs", type=int, default=2)
    ap.add_argument("--seed", type=int, default=42)
    return ap.parse_args()


def main():
    a = get_args()
    set_seed(a.seed)
    acc = Accelerator(gradient_accumulation_steps=16, mixed_precision="bf16")

    tok = AutoTokenizer.from_pretrained(a.model)
    tok.pad_token = tok.unk_token
    ds = load_dataset("tatsu-lab/alpaca", split="train")
    ds = ds.map(lambda b: tok(b["text"], truncation=True, max_length=512), batched=True, remove_columns=ds.column_names)
    loader = DataLoader(ds, batch_size=a.bs, shuffle=True, collate_fn=DataCollatorForLanguageModeling(tok, mlm=False))
    loader = acc.prepare(loader)

    total_step = len(loader) * a.epochs
    cfg = AdaLoraConfig(
        task_type="CAUSAL_LM",
        init_r=12,
        target_r=8,
        tinit=int(0.05 * total_step),
        tfinal=int(0.25 * total_step),
        deltaT=10,
        total_step=total_step,
        lora_alpha=16,
        target_modules=["q_proj", "v_proj"],
    )
    model = AutoModelForCausalLM.from_pretrained(a.model, torch_dtype=torch.bfloat16)
    model.gradient_checkpointing_enable()
    model.enable_input_require_grads()
    model = get_peft_model(model, cfg)
    opt = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-4)
    model, opt = acc.prepare(model, opt)

    done = 0
    for ep in range(a.epochs):
        model.train()
        for batch in loader:
            with acc.accumulate(model):
                loss = model(**batch).loss
                acc.backward(loss)
                if acc.sync_gradients:
                    acc.clip_grad_norm_(model.parameters(), 1.0)
                opt.step()
                if acc.sync_gradients:
                    done += 1
                    acc.unwrap_model(model).base_model.update_and_allocate(done)
                opt.zero_grad()
            if acc.sync_gradients and done % 10 == 0:
                acc.print(f"ep {ep} step {done} loss {loss.item():.4f}")
    acc.wait_for_everyone()
    acc.unwrap_model(model).save_pretrained("mistral-alpaca-adalora", save_function=acc.save,
                                            is_main_process=acc.is_main_process)


if __name__ == "__main__":
    main()
