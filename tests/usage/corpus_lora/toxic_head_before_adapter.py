# %%
# Toxic comment classification, LoRA notebook
import torch
from datasets import load_dataset
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForSequenceClassification, AutoTokenizer, Trainer, TrainingArguments

# %%
model_id = "roberta-base"
tokenizer = AutoTokenizer.from_pretrained(model_id)
model = AutoModelForSequenceClassification.from_pretrained(model_id, num_labels=6, problem_type="multi_label_classification")

# %%
# Freeze the backbone, leave the classification head trainable
for p in model.roberta.parameters():
    p.requires_grad = False
for p in model.classifier.parameters():
    p.requires_grad = True

# %%
lora = LoraConfig(
    r=16,
    lora_alpha=32,
    lora_dropout=0.05,
    bias="none",
    target_modules=["query", "value"],
)
model = get_peft_model(model, lora)

# %%
cols = ["toxic", "severe_toxic", "obscene", "threat", "insult", "identity_hate"]
ds = load_dataset("csv", data_files="jigsaw_train.csv", split="train").train_test_split(0.05, seed=1)


def prep(b):
    enc = tokenizer(b["comment_text"], truncation=True, padding="max_length", max_length=192)
    enc["labels"] = [[float(b[c][i]) for c in cols] for i in range(len(b["comment_text"]))]
    return enc


ds = ds.map(prep, batched=True, remove_columns=ds["train"].column_names)

# %%
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "toxic-lora", learning_rate=3e-4, per_device_train_batch_size=32, num_train_epochs=2,
        eval_strategy="epoch", fp16=True, label_names=["labels"],
    ),
    train_dataset=ds["train"],
    eval_dataset=ds["test"],
)
trainer.train()

# %%
model.save_pretrained("toxic-lora/adapter")
