"""Go on training an adapter from an earlier run (if there is one)."""
import os
import sys

import torch
from datasets import load_dataset
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    Trainer,
    TrainingArguments,
)

BASE = "Qwen/Qwen2.5-0.5B"
OUT = "qwen-notes"
data_file = sys.argv[1]
previous = sys.argv[2] if len(sys.argv) > 2 else None

tok = AutoTokenizer.from_pretrained(BASE)
model = AutoModelForCausalLM.from_pretrained(BASE, torch_dtype=torch.bfloat16)

if previous and os.path.exists(os.path.join(previous, "adapter_config.json")):
    # without is_trainable the saved inference_mode=true would freeze the adapter
    model = PeftModel.from_pretrained(model, previous, is_trainable=True)
    print("resumed from", previous)
else:
    model = get_peft_model(
        model,
        LoraConfig(
            r=32,
            lora_alpha=32,
            lora_dropout=0.05,
            target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
            task_type="CAUSAL_LM",
        ),
    )
assert any(p.requires_grad for p in model.parameters())
model.print_trainable_parameters()

ds = load_dataset("text", data_files=data_file, split="train")
ds = ds.map(lambda b: tok(b["text"], truncation=True, max_length=512), batched=True, remove_columns=["text"])

trainer = Trainer(
    model=model,
    args=TrainingArguments(OUT, learning_rate=1e-4, num_train_epochs=1, per_device_train_batch_size=8, bf16=True),
    train_dataset=ds,
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
model.save_pretrained(OUT)
