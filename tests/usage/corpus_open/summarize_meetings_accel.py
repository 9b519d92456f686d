import math

import torch
from accelerate import Accelerator
from peft import AdaLoraConfig, TaskType, get_peft_model
from transformers import AutoModelForSeq2SeqLM, get_scheduler

from meetings import ami_loader, rouge

accumulate = 16
epochs = 8

accelerator = Accelerator(gradient_accumulation_steps=accumulate)
train_dl, dev_dl = ami_loader(batch_size=1)
steps = math.ceil(len(train_dl) / accumulate) * epochs

model = AutoModelForSeq2SeqLM.from_pretrained("facebook/bart-large-cnn")
model = get_peft_model(
    model,
    AdaLoraConfig(
        task_type=TaskType.SEQ_2_SEQ_LM,
        target_modules=["q_proj", "v_proj", "out_proj"],
        init_r=12,
        target_r=6,
        lora_alpha=24,
        tinit=50,
        tfinal=100,
        deltaT=5,
        total_step=steps,
    ),
)
optimizer = torch.optim.AdamW(model.parameters(), lr=6e-4)
sched = get_scheduler("linear", optimizer, num_warmup_steps=20, num_training_steps=steps)
model, optimizer, train_dl, dev_dl, sched = accelerator.prepare(model, optimizer, train_dl, dev_dl, sched)

seen = 0
for epoch in range(epochs):
    model.train()
    for batch in train_dl:
        seen += 1
        with accelerator.accumulate(model):
            out = model(**batch)
            accelerator.backward(out.loss)
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            sched.step()
            if accelerator.sync_gradients:
                accelerator.unwrap_model(model).base_model.update_and_allocate(seen)
            optimizer.zero_grad()
    accelerator.print(epoch, rouge(model, dev_dl))
