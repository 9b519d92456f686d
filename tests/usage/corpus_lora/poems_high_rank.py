from datasets import load_dataset
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer

config = LoraConfig(
    r=256,
    lora_dropout=0.05,
    bias="none",
    task_type="CAUSAL_LM",
    target_modules="all-linear",
)
trainer = SFTTrainer(
    "Qwen/Qwen2.5-1.5B",
    train_dataset=load_dataset("poems", split="train"),
    args=SFTConfig("poems", learning_rate=1e-4, num_train_epochs=1),
    peft_config=config,
)
trainer.train()
