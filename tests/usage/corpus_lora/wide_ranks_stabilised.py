"""High ranks with the scale of rsLoRA, and ranks for single modules."""

import peft
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

from corpus import rows

model = AutoModelForCausalLM.from_pretrained("facebook/opt-350m")
wide = peft.LoraConfig(
    r=256, use_rslora=True, target_modules=["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"]
)
model = peft.get_peft_model(model, wide)
Trainer(model=model, args=TrainingArguments("wide", num_train_epochs=1), train_dataset=rows).train()

base = AutoModelForCausalLM.from_pretrained("facebook/opt-350m")
narrow = peft.LoraConfig(
    r=64, rank_pattern={"q_proj": 8, "v_proj": 8}, alpha_pattern={"q_proj": 16, "v_proj": 16},
    target_modules=["q_proj", "v_proj"],
)
model = peft.get_peft_model(base, narrow)
Trainer(model=model, args=TrainingArguments("narrow", num_train_epochs=1), train_dataset=rows).train()
