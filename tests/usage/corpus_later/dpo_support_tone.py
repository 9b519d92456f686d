"""Preference tuning of the support bot: polite answers over curt ones."""
import argparse

import torch
from datasets import load_dataset
from peft import AdaLoraConfig, LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer

ap = argparse.ArgumentParser()
ap.add_argument("--base", default="HuggingFaceTB/SmolLM2-360M-Instruct")
ap.add_argument("--pairs", default="pairs.parquet")
ap.add_argument("--adaptive", action="store_true", help="AdaLoRA in place of LoRA")
cli = ap.parse_args()

tokenizer = AutoTokenizer.from_pretrained(cli.base)
policy = AutoModelForCausalLM.from_pretrained(cli.base, torch_dtype=torch.bfloat16)
pairs = load_dataset("parquet", data_files=cli.pairs, split="train").train_test_split(0.05, seed=1)

linear = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
if cli.adaptive:
    adapter = AdaLoraConfig(
        task_type="CAUSAL_LM",
        init_r=24,
        target_r=12,
        lora_alpha=48,
        lora_dropout=0.05,
        tinit=200,
        tfinal=600,
        deltaT=20,
        total_step=3000,
        target_modules=linear,
    )
else:
    adapter = LoraConfig(task_type="CAUSAL_LM", r=16, lora_alpha=32, target_modules=linear)

settings = DPOConfig(
    output_dir="support-dpo",
    beta=0.1,
    max_steps=800,
    per_device_train_batch_size=4,
    gradient_accumulation_steps=4,
    learning_rate=5e-6,
    logging_steps=20,
    bf16=True,
)
trainer = DPOTrainer(
    model=policy,
    args=settings,
    train_dataset=pairs["train"],
    eval_dataset=pairs["test"],
    processing_class=tokenizer,
    peft_config=adapter,
)
trainer.train()
trainer.save_model("support-dpo/last")
