import math
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from peft import AdaLoraConfig, get_peft_model, prepare_model_for_kbit_training
from torch.utils.data import DataLoader
from tqdm.auto import tqdm
from transformers import BitsAndBytesConfig, WhisperForConditionalGeneration, get_scheduler

from hindi import collate, corpus


@dataclass
class Settings:
    name: str = "openai/whisper-medium"
    epochs: int = 3
    batch_size: int = 4
    accumulation: int = 4
    lr: float = 1e-3
    log_every: int = 25


def main(s: Settings):
    accelerator = Accelerator(gradient_accumulation_steps=s.accumulation, log_with="tensorboard", project_dir="runs")
    model = WhisperForConditionalGeneration.from_pretrained(
        s.name, quantization_config=BitsAndBytesConfig(load_in_8bit=True)
    )
    model = prepare_model_for_kbit_training(model)
    loader = DataLoader(corpus("train"), batch_size=s.batch_size, shuffle=True, collate_fn=collate)
    max_steps = s.epochs * math.ceil(len(loader) / s.accumulation)
    config = AdaLoraConfig(
        init_r=12,
        target_r=4,
        tinit=200,
        tfinal=1000,
        deltaT=10,
        lora_alpha=32,
        lora_dropout=0.1,
        target_modules=["k_proj", "q_proj", "v_proj", "out_proj", "fc1", "fc2"],
        orth_reg_weight=0.5,
        total_step=max_steps,
    )
    model = get_peft_model(model, config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=s.lr)
    lr_scheduler = get_scheduler("constant_with_warmup", optimizer, num_warmup_steps=50, num_training_steps=max_steps)
    model, optimizer, loader, lr_scheduler = accelerator.prepare(model, optimizer, loader, lr_scheduler)

    bar = tqdm(range(max_steps), disable=not accelerator.is_local_main_process)
    global_step = 0
    for epoch in range(s.epochs):
        model.train()
        for step, batch in enumerate(loader):
            with accelerator.accumulate(model):
                outputs = model(**batch)
                accelerator.backward(outputs.loss)
                optimizer.step()
                lr_scheduler.step()
                # needs gradients, so before zero_grad()
                model.update_and_allocate(global_step)
                optimizer.zero_grad()
                global_step += 1
                bar.update(1)
            if global_step % s.log_every == 0:
                accelerator.log({"loss": outputs.loss.item()}, step=global_step)


if __name__ == "__main__":
    main(Settings())
