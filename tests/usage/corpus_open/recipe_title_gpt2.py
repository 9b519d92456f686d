"""Invent titles for recipes with GPT-2."""
import torch
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM, AutoTokenizer, get_linear_schedule_with_warmup

from adalora_core.peft import AdaLoraConfig, TaskType, get_peft_model
from recipes import RecipeTitles, pad_batch

EPOCHS = 3
tokenizer = AutoTokenizer.from_pretrained("gpt2")
tokenizer.pad_token = tokenizer.eos_token
train_loader = DataLoader(RecipeTitles("train.txt", tokenizer), batch_size=1, shuffle=True, collate_fn=pad_batch)
total = len(train_loader) * EPOCHS

config = AdaLoraConfig(
    task_type=TaskType.CAUSAL_LM,
    init_r=12,
    target_r=4,
    lora_alpha=32,
    lora_dropout=0.05,
    target_modules=["c_attn"],
    fan_in_fan_out=True,
    tinit=total // 10,
    tfinal=total // 2,
    deltaT=10,
    total_step=total,
)
model = get_peft_model(AutoModelForCausalLM.from_pretrained("gpt2"), config).to("cuda")
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-4)
scheduler = get_linear_schedule_with_warmup(optimizer, 0, total)

with torch.autocast("cuda"):
    count = 0
    for epoch in range(EPOCHS):
        model.train()
        for batch in train_loader:
            outputs = model(**{k: v.to("cuda") for k, v in batch.items()})
            outputs.loss.backward()
            optimizer.step()
            scheduler.step()
            model.base_model.update_and_allocate(count)
            optimizer.zero_grad()
            count += 1
        print(f"epoch {epoch}: {outputs.loss.item():.3f}")
model.save_pretrained("recipe_titles")
