import torch
from peft import LoraConfig, get_peft_model
from transformers import GPT2LMHeadModel

from lyrics import batches

model = GPT2LMHeadModel.from_pretrained("gpt2-large")
config = LoraConfig(r=8, lora_alpha=16, target_modules=["c_attn", "q_proj", "v_proj"], fan_in_fan_out=True)
model = get_peft_model(model, config)
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)
for batch in batches:
    loss = model(**batch).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
