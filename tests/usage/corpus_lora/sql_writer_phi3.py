"""Phi-3 SFT. All hyperparameters live in the dataclasses below."""
from dataclasses import asdict, dataclass, field

import torch
from datasets import load_dataset
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    Trainer,
    TrainingArguments,
)


@dataclass
class LoraSettings:
    r: int = 32
    lora_alpha: int = 64
    lora_dropout: float = 0.05
    target_modules: list = field(
        default_factory=lambda: ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    )
    task_type: str = "CAUSAL_LM"


@dataclass
class RunSettings:
    base: str = "microsoft/Phi-3-mini-4k-instruct"
    data: str = "b-mc2/sql-create-context"
    out: str = "phi3-sql"
    lr: float = 2e-4
    epochs: int = 2


run, lora = RunSettings(), LoraSettings()

tok = AutoTokenizer.from_pretrained(run.base)
model = AutoModelForCausalLM.from_pretrained(run.base, torch_dtype=torch.bfloat16, device_map="auto")
model = get_peft_model(model, LoraConfig(**asdict(lora)))


def fmt(r):
    msgs = [
        {"role": "user", "content": f"{r['context']}\n\n{r['question']}"},
        {"role": "assistant", "content": r["answer"]},
    ]
    return tok(tok.apply_chat_template(msgs, tokenize=False), truncation=True, max_length=512)


ds = load_dataset(run.data, split="train")
ds = ds.map(fmt, remove_columns=ds.column_names)

trainer = Trainer(
    model=model,
    args=TrainingArguments(
        run.out, learning_rate=run.lr, num_train_epochs=run.epochs, per_device_train_batch_size=8, bf16=True
    ),
    train_dataset=ds,
    data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
)
trainer.train()
model.save_pretrained(run.out)
