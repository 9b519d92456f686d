"""Continue an adapter, or begin a new one."""
import os
import sys

from datasets import load_from_disk
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

BASE = "EleutherAI/pythia-410m"


def get_model(resume):
    base = AutoModelForCausalLM.from_pretrained(BASE)
    if resume and os.path.exists(os.path.join(resume, "adapter_config.json")):
        return PeftModel.from_pretrained(base, resume, is_trainable=True)
    return get_peft_model(
        base,
        LoraConfig(r=8, lora_alpha=16, target_modules=["query_key_value", "dense"], task_type="CAUSAL_LM"),
    )


if __name__ == "__main__":
    model = get_model(sys.argv[1] if len(sys.argv) > 1 else None)
    args = TrainingArguments("out/pythia", save_steps=500, learning_rate=2e-4)
    trainer = Trainer(model, args, train_dataset=load_from_disk("data/tok"))
    trainer.train()
    model.save_pretrained("out/pythia/last")
