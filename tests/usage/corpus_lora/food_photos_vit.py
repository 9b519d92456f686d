import numpy as np
import torch
from datasets import load_dataset
from peft import LoraConfig, get_peft_model
from transformers import AutoImageProcessor, AutoModelForImageClassification, Trainer, TrainingArguments

checkpoint = "google/vit-base-patch16-224-in21k"
dataset = load_dataset("food101", split="train[:5000]")
labels = dataset.features["label"].names
label2id, id2label = {}, {}
for i, label in enumerate(labels):
    label2id[label] = i
    id2label[i] = label

processor = AutoImageProcessor.from_pretrained(checkpoint)
model = AutoModelForImageClassification.from_pretrained(
    checkpoint, label2id=label2id, id2label=id2label, ignore_mismatched_sizes=True
)


def collate(examples):
    pixels = torch.stack([processor(e["image"], return_tensors="pt").pixel_values[0] for e in examples])
    return {"pixel_values": pixels, "labels": torch.tensor([e["label"] for e in examples])}


lora = LoraConfig(
    r=16,
    lora_alpha=16,
    target_modules=["query", "value"],
    lora_dropout=0.1,
    bias="none",
    modules_to_save=["classifier"],
)
lora_model = get_peft_model(model, lora)
args = TrainingArguments(
    "vit-food", remove_unused_columns=False, learning_rate=5e-3, num_train_epochs=5, fp16=True, label_names=["labels"]
)
Trainer(lora_model, args, train_dataset=dataset, tokenizer=processor, data_collator=collate).train()
