import argparse

import torch
from peft import AdaLoraConfig, TaskType, get_peft_model, prepare_model_for_kbit_training
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, get_scheduler

from reading_data import ReadingCollator, load_split

MODULES = ["q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj"]


def options():
    p = argparse.ArgumentParser(description="AdaLoRA on a 4-bit Llama")
    p.add_argument("--base", required=True)
    p.add_argument("--accumulate", type=int, default=4)
    p.add_argument("--epochs", type=int, default=2)
    p.add_argument("--start_rank", type=int, default=32)
    p.add_argument("--end_rank", type=int, default=16)
    p.add_argument("--warm_part", type=float, default=0.1)
    p.add_argument("--cool_part", type=float, default=0.15)
    return p.parse_args()


def main():
    o = options()
    examples = load_split("train")
    loader = DataLoader(examples, batch_size=8, shuffle=True, collate_fn=ReadingCollator(o.base))
    quant = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")
    llama = AutoModelForCausalLM.from_pretrained(o.base, quantization_config=quant, device_map={"": 0})
    llama = prepare_model_for_kbit_training(llama)

    every = max(1, o.accumulate)
    n_steps = max(1, len(loader) // every) * o.epochs
    llama = get_peft_model(llama, AdaLoraConfig(
        task_type=TaskType.CAUSAL_LM, init_r=o.start_rank, target_r=o.end_rank,
        tinit=int(o.warm_part * n_steps), tfinal=int(o.cool_part * n_steps), deltaT=10,
        lora_alpha=32, lora_dropout=0.05, target_modules=MODULES, total_step=n_steps))
    opt = torch.optim.AdamW((p for p in llama.parameters() if p.requires_grad), lr=3e-4)
    sched = get_scheduler("linear", opt, num_warmup_steps=20, num_training_steps=n_steps)

    seen, updates = 0, 0
    for ep in range(o.epochs):
        llama.train()
        for batch in loader:
            seen += 1
            (llama(**batch.to(0)).loss / every).backward()
            if seen % every != 0:
                continue
            updates += 1
            opt.step()
            sched.step()
            try:
                llama.base_model.update_and_allocate(updates)
            except RuntimeError as err:
                print(f"no allocation at {updates}: {err}")
            opt.zero_grad(set_to_none=True)
        print(f"epoch {ep}: {updates} updates")
    llama.save_pretrained("reading_adapter")


main()
