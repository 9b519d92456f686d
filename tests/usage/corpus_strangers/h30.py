"""Instruction tuning of Llama with TRL + AdaLoRA."""
import argparse

import torch
from datasets import load_dataset
from peft import AdaLoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import SFTConfig, SFTTrainer


class AdaLoraCallback(TrainerCallback):
    def __init__(self, model):
        self.model = model

    def on_optimizer_step(self, args, state, control, **kwargs):
        self.model.base_model.update_and_allocate(state.global_step)


def parse():
    ap = argparse.ArgumentParser()
    ap.add_argument("--model", default="meta-llama/Llama-3.2-3B")
    ap.add_argument("--data", default="HuggingFaceH4/no_robots")
    ap.add_argument("--max-steps", type=int, default=1000)
    ap.add_argument("--out", default="llama-adalora")
    return ap.parse_args()


def main():
    a = parse()
    tokenizer = AutoTokenizer.from_pretrained(a.model)
    tokenizer.pad_token = tokenizer.eos_token
    model = AutoModelForCausalLM.from_pretrained(a.model, torch_dtype=torch.bfloat16)
    model.config.use_cache = False

    peft_config = AdaLoraConfig(
        task_type="CAUSAL_LM",
        init_r=16,
        target_r=8,
        lora_alpha=32,
        tinit=100,
        tfinal=300,
        deltaT=10,
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj"],
        total_step=a.max_steps,
    )
    sft = SFTConfig(
        output_dir=a.out,
        max_steps=a.max_steps,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=8,
        learning_rate=3e-4,
        lr_scheduler_type="cosine",
        warmup_ratio=0.03,
        bf16=True,
        logging_steps=10,
    )
    trainer = SFTTrainer(
        model=model,
        args=sft,
        train_dataset=load_dataset(a.data, split="train"),
        processing_class=tokenizer,
        peft_config=peft_config,
        callbacks=[AdaLoraCallback(model)],
    )
    trainer.train()
    trainer.save_model(a.out)


if __name__ == "__main__":
    main()
