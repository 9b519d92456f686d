import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from peft import AdaLoraConfig, LoraConfig, PeftType, TaskType, get_peft_model
from transformers import AutoModelForCausalLM, get_cosine_schedule_with_warmup

from legal_corpus import packed_loader

STEPS = 2000
METHOD = "adalora"


def build(method):
    model = AutoModelForCausalLM.from_pretrained("EleutherAI/pythia-1b")
    if method == "adalora":
        config = AdaLoraConfig(
            task_type=TaskType.CAUSAL_LM,
            target_modules=["query_key_value"],
            init_r=12,
            target_r=8,
            tinit=200,
            tfinal=400,
            deltaT=10,
            lora_alpha=32,
            total_step=STEPS,
        )
    else:
        config = LoraConfig(task_type=TaskType.CAUSAL_LM, r=8, lora_alpha=32, target_modules=["query_key_value"])
    return get_peft_model(model, config)


def run():
    set_seed(11)
    accelerator = Accelerator(mixed_precision="bf16")
    model = build(METHOD)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)
    schedule = get_cosine_schedule_with_warmup(optimizer, 100, STEPS)
    model, optimizer, loader, schedule = accelerator.prepare(
        model, optimizer, packed_loader("legal/*.bin", batch_size=4), schedule
    )
    model.train()
    for step, batch in enumerate(loader):
        if step == STEPS:
            break
        with accelerator.autocast():
            loss = model(**batch).loss
        accelerator.backward(loss)
        plain = accelerator.unwrap_model(model)
        if plain.peft_type == PeftType.ADALORA:
            plain.base_model.update_and_allocate(step)
        accelerator.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % 20 == 0:
            accelerator.print(step, round(loss.item(), 4))
    plain.save_pretrained("legal-adapter")


if __name__ == "__main__":
    run()
