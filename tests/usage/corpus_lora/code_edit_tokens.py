"""Extend TinyLlama with code-edit tokens; embed_tokens and lm_head get LoRA as well."""
import torch
from datasets import load_dataset
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    Trainer,
    TrainingArguments,
)

BASE = "TinyLlama/TinyLlama_v1.1"
EDIT = ["<|before|>", "<|after|>", "<|msg|>"]

tok = AutoTokenizer.from_pretrained(BASE)
tok.add_special_tokens({"additional_special_tokens": EDIT})
tok.pad_token = tok.unk_token
model = AutoModelForCausalLM.from_pretrained(BASE, torch_dtype=torch.bfloat16)
model.resize_token_embeddings(len(tok))

config = LoraConfig(
    r=32,
    lora_alpha=64,
    target_modules=[
        "embed_tokens",
        "lm_head",
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    ],
    task_type="CAUSAL_LM",
)
model = get_peft_model(model, config)

ds = load_dataset("bigcode/commitpackft", "python", split="train", trust_remote_code=True)
ds = ds.map(
    lambda r: tok(
        f"<|before|>{r['old_contents']}<|msg|>{r['message']}<|after|>{r['new_contents']}{tok.eos_token}",
        truncation=True,
        max_length=1536,
    ),
    remove_columns=ds.column_names,
)
args = TrainingArguments(
    "tinyllama-edits", learning_rate=2e-4, num_train_epochs=1, per_device_train_batch_size=4,
    gradient_accumulation_steps=8, bf16=True, logging_steps=20,
)
Trainer(model=model, args=args, train_dataset=ds, data_collator=DataCollatorForLanguageModeling(tok, mlm=False)).train()
model.save_pretrained("tinyllama-edits/final", save_embedding_layers=True)
tok.save_pretrained("tinyllama-edits/final")
