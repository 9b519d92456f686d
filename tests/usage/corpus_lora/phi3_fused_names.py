from dataclasses import dataclass, field
from typing import List

import torch
from datasets import load_dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, HfArgumentParser
from trl import SFTConfig, SFTTrainer


@dataclass
class LoraArgs:
    rank: int = field(default=64)
    alpha: int = field(default=128)
    dropout: float = field(default=0.05)
    # Phi-3 fuses qkv and gate/up
    targets: List[str] = field(default_factory=lambda: ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"])

    def build(self) -> LoraConfig:
        return LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules=self.targets,
            bias="none",
            task_type="CAUSAL_LM",
        )


@dataclass
class DataArgs:
    path: str = field(default="train.jsonl")
    model: str = field(default="microsoft/Phi-3-mini-4k-instruct")


def main():
    lora, data, sft = HfArgumentParser((LoraArgs, DataArgs, SFTConfig)).parse_args_into_dataclasses()
    tokenizer = AutoTokenizer.from_pretrained(data.model)
    model = AutoModelForCausalLM.from_pretrained(data.model, torch_dtype=torch.bfloat16)
    train = load_dataset("json", data_files=data.path, split="train")
    trainer = SFTTrainer(
        model=model,
        args=sft,
        train_dataset=train,
        processing_class=tokenizer,
        peft_config=lora.build(),
    )
    trainer.train()
    trainer.save_model()


if __name__ == "__main__":
    main()
