"""Train a second-domain adapter with the same settings as an earlier one."""
import sys

import torch
from datasets import load_dataset
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    DataCollatorForLanguageModeling,
    Trainer,
    TrainingArguments,
)

prev_adapter, data_file, out_dir = sys.argv[1:4]

# same rank / targets / dropout as the adapter in prev_adapter/adapter_config.json, fresh weights
config = LoraConfig.from_pretrained(prev_adapter)
base = config.base_model_name_or_path

tok = AutoTokenizer.from_pretrained(base)
tok.pad_token = tok.pad_token or tok.eos_token

model = AutoModelForCausalLM.from_pretrained(
    base,
    quantization_config=BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=torch.bfloat16),
    device_map={"": 0},
)
# also enables gradient checkpointing and grads on the inputs
model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=True)
model = get_peft_model(model, config)

ds = load_dataset("json", data_files=data_file, split="train")
ds = ds.map(lambda r: tok(r["text"], truncation=True, max_length=1024), remove_columns=ds.column_names)

trainer = Trainer(
    model=model,
    args=TrainingArguments(
        output_dir=out_dir,
        learning_rate=2e-4,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=8,
        num_train_epochs=1,
        bf16=True,
        logging_steps=10,
    ),
    train_dataset=ds,
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
model.save_pretrained(out_dir)
