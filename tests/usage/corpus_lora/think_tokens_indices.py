"""Add <think>/</think> tokens to Llama-3.2-1B and train only those rows besides LoRA."""
import torch
from datasets import load_dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

BASE = "meta-llama/Llama-3.2-1B"  # tied embeddings
NEW = ["<think>", "</think>"]

tokenizer = AutoTokenizer.from_pretrained(BASE)
tokenizer.pad_token = "<|finetune_right_pad_id|>"
tokenizer.add_tokens(NEW, special_tokens=True)
new_ids = tokenizer.convert_tokens_to_ids(NEW)

model = AutoModelForCausalLM.from_pretrained(BASE, torch_dtype=torch.bfloat16)
model.resize_token_embeddings(len(tokenizer))

peft_config = LoraConfig(
    r=16,
    lora_alpha=32,
    target_modules="all-linear",
    trainable_token_indices={"embed_tokens": new_ids},
    task_type="CAUSAL_LM",
)

ds = load_dataset("json", data_files="reasoning.jsonl", split="train")
ds = ds.map(
    lambda r: {
        "prompt": r["question"] + "\n",
        "completion": f"<think>{r['reasoning']}</think>{r['answer']}{tokenizer.eos_token}",
    },
    remove_columns=ds.column_names,
)

trainer = SFTTrainer(
    model=model,
    args=SFTConfig(
        output_dir="llama-think",
        learning_rate=2e-4,
        per_device_train_batch_size=8,
        num_train_epochs=2,
        bf16=True,
    ),
    train_dataset=ds,
    processing_class=tokenizer,
    peft_config=peft_config,
)
trainer.train()
trainer.save_model("llama-think/final")
tokenizer.save_pretrained("llama-think/final")
