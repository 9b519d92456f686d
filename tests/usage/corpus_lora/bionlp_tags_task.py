"""BioNLP NER with LoRA."""
from datasets import load_dataset
from peft import LoraConfig, TaskType, get_peft_model
from transformers import (
    AutoModelForTokenClassification,
    AutoTokenizer,
    DataCollatorForTokenClassification,
    Trainer,
    TrainingArguments,
)

model_checkpoint = "roberta-large"
raw = load_dataset("tner/bionlp2004")
label2id = {
    "O": 0, "B-DNA": 1, "I-DNA": 2, "B-protein": 3, "I-protein": 4, "B-cell_type": 5,
    "I-cell_type": 6, "B-cell_line": 7, "I-cell_line": 8, "B-RNA": 9, "I-RNA": 10,
}
id2label = {v: k for k, v in label2id.items()}
tokenizer = AutoTokenizer.from_pretrained(model_checkpoint, add_prefix_space=True)


def align(examples):
    enc = tokenizer(examples["tokens"], truncation=True, is_split_into_words=True)
    out = []
    for i, tags in enumerate(examples["tags"]):
        prev, row = None, []
        for w in enc.word_ids(batch_index=i):
            row.append(-100 if w is None or w == prev else tags[w])
            prev = w
        out.append(row)
    enc["labels"] = out
    return enc


tokenized = raw.map(align, batched=True)
model = AutoModelForTokenClassification.from_pretrained(
    model_checkpoint, num_labels=11, id2label=id2label, label2id=label2id
)
peft_config = LoraConfig(
    task_type=TaskType.TOKEN_CLS, inference_mode=False, r=16, lora_alpha=16, lora_dropout=0.1, bias="all"
)
model = get_peft_model(model, peft_config)

trainer = Trainer(
    model=model,
    args=TrainingArguments(
        output_dir="roberta-large-lora-ner",
        learning_rate=1e-3,
        per_device_train_batch_size=16,
        num_train_epochs=10,
        weight_decay=0.01,
        eval_strategy="epoch",
        save_strategy="epoch",
        load_best_model_at_end=True,
    ),
    train_dataset=tokenized["train"],
    eval_dataset=tokenized["validation"],
    processing_class=tokenizer,
    data_collator=DataCollatorForTokenClassification(tokenizer),
)
trainer.train()
