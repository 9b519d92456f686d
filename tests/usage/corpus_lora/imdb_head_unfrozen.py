import os

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

BASE, OUT = "roberta-base", "roberta-imdb"

tok = AutoTokenizer.from_pretrained(BASE)
ds = load_dataset("imdb").map(lambda b: tok(b["text"], truncation=True, max_length=256), batched=True)

model = AutoModelForSequenceClassification.from_pretrained(BASE, num_labels=2)
model = get_peft_model(
    model,
    LoraConfig(r=8, lora_alpha=16, lora_dropout=0.1, target_modules=["query", "key", "value"]),
)

# get_peft_model froze the whole base; put the (new) head back by hand.
for name, param in model.named_parameters():
    if "classifier" in name:
        param.requires_grad = True

n_train = sum(p.numel() for p in model.parameters() if p.requires_grad)
print(f"trainable parameters: {n_train:,}")

trainer = Trainer(
    model=model,
    args=TrainingArguments(
        OUT,
        learning_rate=4e-4,
        per_device_train_batch_size=32,
        num_train_epochs=2,
        eval_strategy="epoch",
        fp16=True,
        label_names=["labels"],
    ),
    train_dataset=ds["train"],
    eval_dataset=ds["test"],
    data_collator=DataCollatorWithPadding(tok),
)
trainer.train()

model.save_pretrained(OUT)
head = {k: v.cpu() for k, v in model.state_dict().items() if "classifier" in k}
torch.save(head, os.path.join(OUT, "head.pt"))
