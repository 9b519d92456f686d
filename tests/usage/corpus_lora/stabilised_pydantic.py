"""High rank, default alpha, but rank-stabilised: 8 / sqrt(256) = 0.5."""
from datasets import load_dataset
from peft import LoraConfig
from pydantic import BaseModel
from trl import SFTConfig, SFTTrainer


class Adapter(BaseModel):
    r: int = 256
    use_rslora: bool = True
    lora_dropout: float = 0.0
    target_modules: str = "all-linear"
    task_type: str = "CAUSAL_LM"


def main():
    adapter = Adapter()
    trainer = SFTTrainer(
        model="google/gemma-2-2b",
        args=SFTConfig(output_dir="out/rs", bf16=True, learning_rate=1e-4),
        train_dataset=load_dataset("HuggingFaceH4/no_robots", split="train"),
        peft_config=LoraConfig(**adapter.model_dump()),
    )
    trainer.train()
    trainer.save_model()


if __name__ == "__main__":
    main()
