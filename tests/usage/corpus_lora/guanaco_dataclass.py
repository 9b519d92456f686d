from dataclasses import dataclass

import torch
from datasets import load_dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
from trl import SFTConfig, SFTTrainer


@dataclass
class Config:
    model_id: str = "meta-llama/Llama-3.1-8B"
    dataset_id: str = "timdettmers/openassistant-guanaco"
    lora_r: int = 128
    lora_alpha: int = 256
    lora_dropout: float = 0.05
    lr: float = 1e-4
    max_len: int = 1024


def build_peft(cfg: Config) -> LoraConfig:
    return LoraConfig(
        r=cfg.lora_r,
        lora_dropout=cfg.lora_dropout,
        target_modules="all-linear",
        bias="none",
        task_type="CAUSAL_LM",
    )


def build_model(cfg: Config):
    bnb = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16
    )
    return AutoModelForCausalLM.from_pretrained(cfg.model_id, quantization_config=bnb, device_map="auto")


def main(cfg: Config):
    tok = AutoTokenizer.from_pretrained(cfg.model_id)
    tok.pad_token = "<|finetune_right_pad_id|>"
    trainer = SFTTrainer(
        model=build_model(cfg),
        args=SFTConfig(
            output_dir="llama31-guanaco",
            dataset_text_field="text",
            max_length=cfg.max_len,
            learning_rate=cfg.lr,
            per_device_train_batch_size=4,
            gradient_accumulation_steps=4,
            bf16=True,
            max_steps=1500,
        ),
        train_dataset=load_dataset(cfg.dataset_id, split="train"),
        processing_class=tok,
        peft_config=build_peft(cfg),
    )
    trainer.train()
    trainer.save_model()


if __name__ == "__main__":
    main(Config())
