"""Ticket routing with BART encoder-decoder classification."""
from datasets import load_dataset
from peft import LoraConfig, TaskType, get_peft_model
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)

QUEUES = ["billing", "network", "hardware", "account", "other"]
BASE = "facebook/bart-base"


def make_model():
    model = AutoModelForSequenceClassification.from_pretrained(BASE, num_labels=len(QUEUES))
    config = LoraConfig(
        task_type=TaskType.SEQ_CLS,
        r=16,
        lora_alpha=32,
        target_modules=["q_proj", "v_proj", "fc1", "fc2"],
    )
    return get_peft_model(model, config)


def main():
    tok = AutoTokenizer.from_pretrained(BASE)
    ds = load_dataset("csv", data_files={"train": "tickets.csv"})["train"]
    ds = ds.map(lambda r: {**tok(r["text"], truncation=True), "labels": QUEUES.index(r["queue"])})
    model = make_model()
    trainer = Trainer(
        model,
        TrainingArguments("out/routing", learning_rate=3e-4, num_train_epochs=4),
        train_dataset=ds,
        data_collator=DataCollatorWithPadding(tok),
    )
    trainer.train()
    model.save_pretrained("out/routing/adapter")


if __name__ == "__main__":
    main()
