import os
from typing import List

import fire
import torch
from datasets import load_dataset
from peft import AdaLoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainingArguments
from trl import SFTTrainer


def train(
    base_model: str = "",  # required
    data_path: str = "teknium/GPT4-LLM-Cleaned",
    output_dir: str = "./vicuna-style",
    batch_size: int = 128,
    micro: int = 4,
    num_epochs: int = 3,
    learning_rate: float = 3e-4,
    val_set_size: int = 1000,
    # adapter
    rank: int = 8,
    alpha: int = 16,
    dropout: float = 0.05,
    modules: List[str] = ["q_proj", "v_proj"],
):
    assert base_model, "give --base_model"
    accumulate = batch_size // micro
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if world_size != 1:
        accumulate = accumulate // world_size

    model = AutoModelForCausalLM.from_pretrained(base_model, torch_dtype=torch.float16, device_map="auto")
    tokenizer = AutoTokenizer.from_pretrained(base_model)
    tokenizer.pad_token_id = 0
    tokenizer.padding_side = "left"

    config = AdaLoraConfig(
        peft_type="ADALORA",
        task_type="CAUSAL_LM",
        r=rank,
        lora_alpha=alpha,
        target_modules=modules,
        lora_dropout=dropout,
    )
    data = load_dataset(data_path)["train"].train_test_split(test_size=val_set_size, seed=42)

    trainer = SFTTrainer(
        model=model,
        train_dataset=data["train"].shuffle(),
        eval_dataset=data["test"],
        peft_config=config,
        args=TrainingArguments(
            per_device_train_batch_size=micro,
            gradient_accumulation_steps=accumulate,
            warmup_steps=100,
            num_train_epochs=num_epochs,
            learning_rate=learning_rate,
            fp16=True,
            output_dir=output_dir,
        ),
    )
    model.config.use_cache = False
    trainer.train()
    model.save_pretrained(output_dir)


if __name__ == "__main__":
    fire.Fire(train)
