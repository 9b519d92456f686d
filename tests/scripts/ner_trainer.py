"""Label tokens with a Trainer whose `compute_loss` is its own, then save through the Trainer.

Source: RifqiCah/Adalora_indonesiaDataset, notebooks/03_modelling.ipynb (the third model)
"""

import numpy as np
import torch
from peft import AdaLoraConfig, PeftModel, TaskType, get_peft_model
from script_parts import base_model, files, kept, sentences, tokenizer
from transformers import DataCollatorForTokenClassification, Trainer, TrainingArguments

# attach: from adalora_core.bridge import attach

words = tokenizer()
rows = [words(text) for text in sentences(32)]
rows = [{**row, "labels": [-100, *(n % 4 for n in row["input_ids"][1:])]} for row in rows]
model = base_model("RobertaForTokenClassification", num_labels=4)
peft_config = AdaLoraConfig(
    task_type=TaskType.TOKEN_CLS,
    inference_mode=False,
    r=16,
    lora_alpha=32,
    lora_dropout=0.1,
    bias="none",
    target_modules=["query", "value"],
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
    """Return the share of right labels among those that count."""
    found, labels = np.argmax(pair[0], axis=2), pair[1]
    return {"accuracy": float((found == labels)[labels != -100].mean())}


class PlainLossTrainer(Trainer):
    """Drop an argument that older models do not take."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Return the loss of the model."""
        inputs.pop("num_items_in_batch", None)
        return super().compute_loss(model, inputs, return_outputs)


arguments = TrainingArguments(
    output_dir="ner",
    learning_rate=1e-3,
    per_device_train_batch_size=8,
    per_device_eval_batch_size=8,
    num_train_epochs=3,
    weight_decay=0.01,
    save_strategy="epoch",
    eval_strategy="epoch",
    logging_steps=2,
    load_best_model_at_end=True,
    report_to="none",
    disable_tqdm=True,
)
trainer = PlainLossTrainer(
    model=model,
    args=arguments,
    train_dataset=rows,
    eval_dataset=rows[:8],
    data_collator=DataCollatorForTokenClassification(words),
    compute_metrics=compute_metrics,
)
trainer.train()
trainer.save_model("saved")
words.save_pretrained("saved")
history = trainer.state.log_history
again = PeftModel.from_pretrained(
    base_model("RobertaForTokenClassification", num_labels=4), "saved"
).eval()
inputs = {name: torch.tensor([rows[0][name]]) for name in ("input_ids", "attention_mask")}
with torch.no_grad():
    difference = (again(**inputs).logits - model.eval()(**inputs).logits).abs().max().item()

outcome = {
    "train_losses": [entry["loss"] for entry in history if "loss" in entry],
    "evaluation_losses": [entry["eval_loss"] for entry in history if "eval_loss" in entry],
    "kept": kept(model),
    "files": files("saved"),
    "reload_difference": difference,
}
