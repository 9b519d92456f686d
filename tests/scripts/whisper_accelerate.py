"""Train a speech model with accelerate, save the state by hooks, load the best and go on.

Source: huggingface/peft, examples/int8_training/peft_adalora_whisper_large_training.py
"""

import math

import torch
from accelerate import Accelerator
from peft import AdaLoraConfig, PeftModel, get_peft_model, prepare_model_for_kbit_training
from script_parts import base_model, files, kept, numbers, token_rows
from torch.utils.data import DataLoader
from transformers import get_scheduler


def save_adapters(models, weights, output_dir):
    """Save the adapters instead of the weights."""
    for model in models:
        model.save_pretrained(output_dir)
        weights.pop()


def load_adapters(models, input_dir):
    """Load the adapters into the models that have them."""
    while models:
        model = models.pop()
        PeftModel.from_pretrained(model.base_model.model, input_dir)


def let_gradients_through(module, input, output):
    """Let gradients reach the adapters under checkpointing."""
    output.requires_grad_(True)


rows = [
    {"input_features": sound, "labels": text}
    for sound, text in zip(numbers(32, 4, 16), token_rows(32, 5), strict=True)
]
accelerator = Accelerator(gradient_accumulation_steps=1, cpu=True)
model = base_model("WhisperForConditionalGeneration")
train_dataloader = DataLoader(rows[:24], shuffle=True, batch_size=4)
eval_dataloader = DataLoader(rows[24:], batch_size=4)
epochs, accumulation = 3, 1
model = prepare_model_for_kbit_training(model)
model.model.encoder.conv1.register_forward_hook(let_gradients_through)
total_steps = epochs * math.ceil(len(train_dataloader) / accumulation)
config = AdaLoraConfig(
    init_r=6,
    target_r=3,
    beta1=0.85,
    beta2=0.85,
    tinit=4,
    tfinal=5,
    deltaT=2,
    lora_alpha=32,
    lora_dropout=0.1,
    target_modules=["k_proj", "q_proj", "v_proj", "out_proj", "fc1", "fc2"],
    orth_reg_weight=0.5,
    total_step=total_steps,
)
model = get_peft_model(model, config)
model.print_trainable_parameters()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
scheduler = get_scheduler(
    name="linear", optimizer=optimizer, num_warmup_steps=0, num_training_steps=total_steps
)
model, optimizer, train_dataloader, eval_dataloader, scheduler = accelerator.prepare(
    model, optimizer, train_dataloader, eval_dataloader, scheduler
)
model.base_model.peft_config["default"].total_step = total_steps
accelerator.register_save_state_pre_hook(save_adapters)
accelerator.register_load_state_pre_hook(load_adapters)


def evaluate():
    """Return the mean loss over the evaluation rows."""
    model.eval()
    with torch.no_grad():
        losses = [model(**batch).loss for batch in eval_dataloader]
    model.train()
    return torch.stack(accelerator.gather(losses)).mean().item()


train_losses, evaluation_losses = [], []
global_step = 0
for _ in range(epochs):
    model.train()
    for batch in train_dataloader:
        with accelerator.accumulate(model):
            loss = model(**batch).loss
            accelerator.backward(loss)
            optimizer.step()
            scheduler.step()
            if model.peft_config["default"].rank_pattern is not None and global_step >= 4:
                model.update_and_allocate(global_step)
            optimizer.zero_grad()
            global_step += 1
        train_losses.append(accelerator.reduce(loss.detach().clone()).item())
        if global_step % 6 == 0:
            accelerator.save_state(f"step_{global_step}")
    evaluation_losses.append(evaluate())
accelerator.load_state("step_12")
if model.peft_config["default"].rank_pattern is not None:
    model.resize_modules_by_rank_pattern(model.peft_config["default"].rank_pattern, "default")
best = evaluate()
accelerator.wait_for_everyone()
accelerator.unwrap_model(model).save_pretrained(
    "saved", is_main_process=accelerator.is_main_process
)

outcome = {
    "train_losses": train_losses,
    "evaluation_losses": evaluation_losses,
    "best": best,
    "kept": kept(model),
    "checkpoint": [name for name in files("step_12") if "model" in name],
    "files": files("saved"),
}
