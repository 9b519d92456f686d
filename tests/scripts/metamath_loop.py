"""Train a causal model in a loop that counts from 1 and drops gradients at its begin.

Source: huggingface/peft, method_comparison/MetaMathQA/run.py
"""

import torch
from peft import AdaLoraConfig, PeftConfig, get_peft_model
from script_parts import base_model, files, kept, sentences, tokenizer

# attach: from adalora_core.bridge import attach

words = tokenizer()
data = [words(text) for text in sentences(32)]
peft_config = AdaLoraConfig(
    task_type="CAUSAL_LM",
    init_r=6,
    target_r=3,
    tinit=2,
    tfinal=4,
    deltaT=1,
    total_step=12,
    lora_alpha=16,
    target_modules=["q_proj", "v_proj"],
)
adaptive = isinstance(peft_config, AdaLoraConfig)
known = isinstance(peft_config, PeftConfig)
model = get_peft_model(base_model("LlamaForCausalLM"), peft_config)
# attach: model = attach(model)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 12)
grad_scaler = torch.amp.GradScaler("cpu", enabled=False)
losses = []
model.train()
for step in range(1, 13):
    start = 4 * step % len(data)
    batch = words.pad(data[start : start + 4], return_tensors="pt")
    labels = batch["input_ids"].clone()
    labels[batch["attention_mask"] == 0] = -100
    batch["labels"] = labels
    num_items_in_batch = batch["attention_mask"].sum().item()
    optimizer.zero_grad()
    outputs = model(**batch, num_items_in_batch=num_items_in_batch)
    loss = outputs.loss
    grad_scaler.scale(loss).backward()
    grad_scaler.unscale_(optimizer)
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    grad_scaler.step(optimizer)
    grad_scaler.update()
    scheduler.step()
    if adaptive:
        model.base_model.update_and_allocate(step)
    losses.append(loss.item())
trainable, total = model.get_nb_trainable_parameters()
model.save_pretrained("saved")

outcome = {
    "adaptive": adaptive,
    "known": known,
    "train_losses": losses,
    "trainable": trainable,
    "total": total,
    "kept": kept(model),
    "files": files("saved"),
}
