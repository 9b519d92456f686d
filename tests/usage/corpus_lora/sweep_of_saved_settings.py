"""Sweep over ranks, copying everything else from the best adapter of the last sweep."""
from datasets import load_from_disk
from peft import LoraConfig, PeftConfig, get_peft_model
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

BEST = "sweeps/2024-11/best"


def variant(rank):
    settings = PeftConfig.from_pretrained(BEST).to_dict()
    settings.update(r=rank, lora_alpha=2 * rank)
    for key in ("revision", "auto_mapping"):
        settings.pop(key, None)
    return LoraConfig(**settings)


def train_one(rank, data):
    config = variant(rank)
    model = AutoModelForCausalLM.from_pretrained(config.base_model_name_or_path)
    model.gradient_checkpointing_enable()
    model.enable_input_require_grads()
    model = get_peft_model(model, config)
    trainer = Trainer(
        model,
        TrainingArguments(f"sweeps/now/r{rank}", max_steps=800, learning_rate=2e-4),
        train_dataset=data["train"],
        eval_dataset=data["dev"],
    )
    trainer.train()
    model.save_pretrained(f"sweeps/now/r{rank}/adapter")
    return trainer.evaluate()["eval_loss"]


if __name__ == "__main__":
    data = load_from_disk("data/sweep")
    print({r: train_one(r, data) for r in (8, 16, 32)})
