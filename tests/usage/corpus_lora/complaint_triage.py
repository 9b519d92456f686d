"""Complaint triage with Qwen2.5: `complaint_triage.py train` / `complaint_triage.py predict FILE`."""
import sys

import torch
from datasets import load_dataset
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)

BASE = "Qwen/Qwen2.5-0.5B"
LABELS = ["billing", "delivery", "product", "other"]
LORA = dict(
    r=16,
    lora_alpha=32,
    lora_dropout=0.05,
    target_modules=["q_proj", "k_proj", "v_proj", "o_proj"],
    inference_mode=True,
)

tok = AutoTokenizer.from_pretrained(BASE)


def build():
    model = AutoModelForSequenceClassification.from_pretrained(BASE, num_labels=len(LABELS))
    model.config.pad_token_id = tok.pad_token_id
    model = get_peft_model(model, LoraConfig(**LORA))
    model.base_model.model.score.requires_grad_(True)
    return model


def train():
    model = build()
    ds = load_dataset("csv", data_files="complaints.csv", split="train").train_test_split(0.1, seed=3)
    ds = ds.map(lambda b: tok(b["text"], truncation=True, max_length=256), batched=True, remove_columns=["text"])
    args = TrainingArguments(
        "triage", learning_rate=2e-4, num_train_epochs=3, per_device_train_batch_size=16,
        bf16=True, eval_strategy="epoch", label_names=["labels"],
    )
    Trainer(
        model, args, train_dataset=ds["train"], eval_dataset=ds["test"], data_collator=DataCollatorWithPadding(tok)
    ).train()
    torch.save(model.state_dict(), "triage/model.pt")


@torch.no_grad()
def predict(path):
    model = build()
    model.load_state_dict(torch.load("triage/model.pt"))
    model.eval()
    for line in open(path):
        logits = model(**tok(line.strip(), return_tensors="pt")).logits
        print(LABELS[logits.argmax(-1).item()], line.strip(), sep="\t")


if __name__ == "__main__":
    train() if sys.argv[1] == "train" else predict(sys.argv[2])
