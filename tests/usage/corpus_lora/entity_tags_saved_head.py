from datasets import load_dataset
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForTokenClassification,
    AutoTokenizer,
    DataCollatorForTokenClassification,
    Trainer,
    TrainingArguments,
)

CHECKPOINT = "bert-base-cased"
rows = load_dataset("conll2003")
names = rows["train"].features["ner_tags"].feature.names
id2label = dict(enumerate(names))
tokenizer = AutoTokenizer.from_pretrained(CHECKPOINT)
base = AutoModelForTokenClassification.from_pretrained(
    CHECKPOINT, id2label=id2label, label2id={v: k for k, v in id2label.items()}
)
config = LoraConfig(
    r=16,
    lora_alpha=16,
    target_modules=["query", "value"],
    lora_dropout=0.1,
    bias="lora_only",
    modules_to_save=["classifier"],
)
model = get_peft_model(base, config)
args = TrainingArguments("tags", learning_rate=1e-3, num_train_epochs=5, label_names=["labels"])
trainer = Trainer(
    model, args, train_dataset=rows["train"], eval_dataset=rows["validation"],
    data_collator=DataCollatorForTokenClassification(tokenizer),
)
trainer.train()
