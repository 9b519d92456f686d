from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM
from torch.optim import AdamW

model = AutoModelForCausalLM.from_pretrained("meta-llama/Llama-3.2-1B")
optimizer = AdamW(model.parameters(), lr=2e-4)
config = LoraConfig(rank=16, lora_alpha=32, target_modules=["q_proj", "v_projj"])
model = get_peft_model(model, config)

for batch in loader:
    model(**batch).loss.backward()
    optimizer.step()
    optimizer.zero_grad()
