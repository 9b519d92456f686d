import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

from dialogues import train_rows

base = AutoModelForCausalLM.from_pretrained("EleutherAI/pythia-410m")
style = LoraConfig(r=8, lora_alpha=16, target_modules=["query_key_value"], task_type="CAUSAL_LM")
reference = LoraConfig(
    r=8, lora_alpha=16, target_modules=["query_key_value"], task_type="CAUSAL_LM", inference_mode=True
)
model = get_peft_model(base, style, adapter_name="style")
model.add_adapter("reference", reference)
model.set_adapter("style")
trainer = Trainer(model=model, args=TrainingArguments("style", max_steps=300), train_dataset=train_rows)
trainer.train()
model.save_pretrained("style", selected_adapters=["style"])
