"""Pydantic-configured SFT launcher."""
from typing import List

from datasets import load_dataset
from peft import LoraConfig
from pydantic import BaseModel, Field
from trl import SFTConfig, SFTTrainer


class AdapterSettings(BaseModel):
    rank: int = Field(256, description="high rank: near full fine-tuning")
    dropout: float = 0.0
    targets: List[str] = ["q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj", "gate_proj"]

    def to_peft(self) -> LoraConfig:
        return LoraConfig(
            r=self.rank,
            lora_dropout=self.dropout,
            target_modules=self.targets,
            task_type="CAUSAL_LM",
        )


class RunSettings(BaseModel):
    model: str = "meta-llama/Llama-3.1-8B"
    lr: float = 1e-4
    adapter: AdapterSettings = AdapterSettings()


def main(path: str = "run.json"):
    with open(path) as f:
        run = RunSettings.model_validate_json(f.read())
    trainer = SFTTrainer(
        model=run.model,
        args=SFTConfig(output_dir="out/hi-rank", learning_rate=run.lr, bf16=True),
        train_dataset=load_dataset("HuggingFaceH4/no_robots", split="train"),
        peft_config=run.adapter.to_peft(),
    )
    trainer.train()


if __name__ == "__main__":
    main()
