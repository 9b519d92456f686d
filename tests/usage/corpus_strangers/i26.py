"""Mistral instruct tuning, settings from yaml."""
import math
import sys

import yaml
from datasets import load_dataset
from peft import AdaLoraConfig, get_peft_model
from transformers import (AutoModelForCausalLM, AutoTokenizer, DataCollatorForLanguageModeling,
                          Trainer, TrainerCallback, TrainingArguments)

DEFAULTS = yaml.safe_load("""
base: mistralai/Mistral-7B-v0.3
data: HuggingFaceH4/no_robots
batch: 2
accum: 8
epochs: 2
lr: 1.0e-4
""")


class Budget(TrainerCallback):
    def on_optimizer_step(self, args, state, control, model=None, **_):
        model.base_model.update_and_allocate(state.global_step)


def load_settings():
    cfg = dict(DEFAULTS)
    if len(sys.argv) > 1:
        with open(sys.argv[1]) as f:
            cfg.update(yaml.safe_load(f))
    return cfg


def main():
    c = load_settings()
    tok = AutoTokenizer.from_pretrained(c["base"])
    tok.pad_token = tok.eos_token
    ds = load_dataset(c["data"], split="train")
    ds = ds.map(lambda r: tok("\n".join(m["content"] for m in r["messages"]) + tok.eos_token,
                              truncation=True, max_length=1024), remove_columns=ds.column_names)
    total = math.ceil(len(ds) / (c["batch"] * c["accum"])) * c["epochs"]

    peft_config = AdaLoraConfig(
        task_type="CAUSAL_LM",
        init_r=16,
        target_r=8,
        lora_alpha=32,
        tinit=int(total * 0.1),
        tfinal=int(total * 0.2),
        deltaT=5,
        total_step=total,
        use_dora=True,
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj"],
    )
    model = AutoModelForCausalLM.from_pretrained(c["base"], torch_dtype="bfloat16")
    model = get_peft_model(model, peft_config)
    model.print_trainable_parameters()
    trainer = Trainer(
        model=model,
        args=TrainingArguments("mistral-nr", per_device_train_batch_size=c["batch"],
                               gradient_accumulation_steps=c["accum"], max_steps=total,
                               learning_rate=c["lr"], bf16=True, logging_steps=10),
        train_dataset=ds, data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
        callbacks=[Budget()])
    trainer.train()
    model.save_pretrained("mistral-nr/adapter")


if __name__ == "__main__":
    main()
