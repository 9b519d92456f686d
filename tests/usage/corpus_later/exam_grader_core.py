"""Grade short exam answers; adapter and callback come from adalora_core."""
from pathlib import Path

from adalora_core import AdaLoraCallback, AdaLoraConfig, get_peft_model
from datasets import load_from_disk
from transformers import (
    AutoModelForSequenceClassification,
    DataCollatorWithPadding,
    AutoTokenizer,
    Trainer,
    TrainingArguments,
)

HERE = Path(__file__).parent
MODEL = "microsoft/deberta-v3-small"

tok = AutoTokenizer.from_pretrained(MODEL)
answers = load_from_disk(str(HERE / "answers"))

plain = AutoModelForSequenceClassification.from_pretrained(MODEL, num_labels=4)
model = get_peft_model(
    plain,
    AdaLoraConfig(
        init_r=12,
        target_r=8,
        lora_alpha=16,
        tinit=150,
        tfinal=300,
        deltaT=10,
        total_step=1500,
        target_modules=["query_proj", "value_proj"],
    ),
)

args = TrainingArguments(
    output_dir="grader",
    max_steps=1500,
    per_device_train_batch_size=32,
    label_smoothing_factor=0.05,
    eval_strategy="steps",
    eval_steps=250,
)
trainer = Trainer(
    model=model,
    args=args,
    train_dataset=answers["train"],
    eval_dataset=answers["dev"],
    data_collator=DataCollatorWithPadding(tok),
)
AdaLoraCallback().add_to(trainer)
trainer.train()
model.save_pretrained("grader/final")
