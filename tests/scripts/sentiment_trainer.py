"""Train a sentence classifier with Trainer, evaluate each epoch and load the best checkpoint.

The script never allocates, as its model does not.

Source: RifqiCah/Adalora_indonesiaDataset, notebooks/03_modelling.ipynb (the first model)
"""

import numpy as np
from peft import AdaLoraConfig, TaskType, get_peft_model
from script_parts import base_model, files, kept, sentences, tokenizer
from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

# attach: from adalora_core.bridge import attach

words = tokenizer()
rows = [{**words(text), "labels": n % 3} for n, text in enumerate(sentences(48))]
model = base_model("BertForSequenceClassification", num_labels=3)
peft_config = AdaLoraConfig(
    task_type=TaskType.SEQ_CLS,
    r=32,
    lora_alpha=64,
    target_modules=["query", "value"],
    lora_dropout=0.1,
    bias="none",
    init_r=6,
    target_r=3,
    beta1=0.85,
    beta2=0.85,
    tinit=2,
    tfinal=4,
    deltaT=2,
    total_step=12,
)
model = get_peft_model(model, peft_config)
# attach: model = attach(model)
model.print_trainable_parameters()


def compute_metrics(pair):
    """Return the share of right classes."""
    return {"accuracy": float((np.argmax(pair[0], axis=1) == pair[1]).mean())}


arguments = TrainingArguments(
    output_dir="sentiment",
    learning_rate=5e-3,
    per_device_train_batch_size=8,
    per_device_eval_batch_size=8,
    num_train_epochs=2,
    weight_decay=0.01,
    eval_strategy="epoch",
    save_strategy="epoch",
    load_best_model_at_end=True,
    metric_for_best_model="accuracy",
    greater_is_better=True,
    save_total_limit=2,
    logging_steps=2,
    report_to="none",
    disable_tqdm=True,
)
trainer = Trainer(
    model=model,
    args=arguments,
    train_dataset=rows,
    eval_dataset=rows[:16],
    data_collator=DataCollatorWithPadding(words),
    compute_metrics=compute_metrics,
)
trainer.train()
history = trainer.state.log_history

outcome = {
    "train_losses": [entry["loss"] for entry in history if "loss" in entry],
    "evaluation_losses": [entry["eval_loss"] for entry in history if "eval_loss" in entry],
    "accuracy": [entry["eval_accuracy"] for entry in history if "eval_loss" in entry],
    "kept": kept(model),
    "files": [name for name in files("sentiment") if "adapter" in name or "model" in name],
}
