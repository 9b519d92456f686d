"""Crop-disease photos with ViT + LoRA."""
import argparse

from datasets import load_dataset
from peft import LoraConfig, get_peft_model
from transformers import AutoImageProcessor, AutoModelForImageClassification, Trainer, TrainingArguments


def parse():
    p = argparse.ArgumentParser()
    p.add_argument("--rank", type=int, default=16)
    p.add_argument("--data", default="internal/crop-leaves")
    return p.parse_args()


def main():
    args = parse()
    ds = load_dataset(args.data)
    labels = ds["train"].features["label"].names
    name = "google/vit-base-patch16-224-in21k"
    proc = AutoImageProcessor.from_pretrained(name)
    model = AutoModelForImageClassification.from_pretrained(
        name, num_labels=len(labels), id2label=dict(enumerate(labels))
    )

    def transform(batch):
        out = proc([im.convert("RGB") for im in batch["image"]], return_tensors="pt")
        out["labels"] = batch["label"]
        return out

    config = LoraConfig(
        r=args.rank,
        lora_alpha=args.rank,
        target_modules=["query", "value"],
        lora_dropout=0.1,
        bias="none",
        modules_to_save=["head"],
    )
    model = get_peft_model(model, config)
    targs = TrainingArguments("out/crops", remove_unused_columns=False, learning_rate=5e-3, num_train_epochs=5)
    Trainer(model, targs, train_dataset=ds["train"].with_transform(transform)).train()
    model.save_pretrained("out/crops/final")


if __name__ == "__main__":
    main()
