"""Domain NLI: the MNLI head of this checkpoint is trained already and is meant to stay."""
from datasets import load_from_disk
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)

NAME = "facebook/bart-large-mnli"

tok = AutoTokenizer.from_pretrained(NAME)
# three labels as published, so no new head is made
model = AutoModelForSequenceClassification.from_pretrained(NAME)
assert model.config.label2id["entailment"] == 2

config = LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj", "v_proj"], lora_dropout=0.1)
model = get_peft_model(model, config)
trainer = Trainer(
    model,
    TrainingArguments("out/law-nli", learning_rate=1e-4, num_train_epochs=2, label_names=["labels"]),
    train_dataset=load_from_disk("data/law_nli"),
    data_collator=DataCollatorWithPadding(tok),
)
trainer.train()
model.save_pretrained("out/law-nli/adapter")
