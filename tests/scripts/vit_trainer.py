"""Classify pictures with Trainer and save the classifier beside the adapter.

Source: huggingface/peft, examples/image_classification/image_classification_peft_lora.ipynb
(with `AdaLoraConfig` and its callback)
"""

import numpy as np
import torch
from peft import AdaLoraConfig, PeftConfig, PeftModel, get_peft_model
from script_parts import base_model, files, kept, numbers
from transformers import Trainer, TrainerCallback, TrainingArguments

# attach: from adalora_core.bridge import attach

rows = [{"pixel_values": each, "labels": n % 3} for n, each in enumerate(numbers(48, 3, 16, 16))]
model = base_model("ViTForImageClassification", num_labels=3)
config = AdaLoraConfig(
    init_r=6,
    target_r=3,
    tinit=2,
    tfinal=3,
    total_step=9,
    lora_alpha=16,
    target_modules=["q_proj", "v_proj"],
    lora_dropout=0.1,
    bias="none",
    modules_to_save=["classifier"],
)
adapted = get_peft_model(model, config)
# attach: adapted = attach(adapted)
adapted.print_trainable_parameters()
arguments = TrainingArguments(
    "vit-finetuned",
    remove_unused_columns=False,
    eval_strategy="epoch",
    save_strategy="epoch",
    learning_rate=5e-3,
    per_device_train_batch_size=8,
    gradient_accumulation_steps=2,
    per_device_eval_batch_size=8,
    num_train_epochs=3,
    logging_steps=1,
    load_best_model_at_end=True,
    metric_for_best_model="accuracy",
    label_names=["labels"],
    report_to="none",
    disable_tqdm=True,
)


class Allocate(TrainerCallback):
    """Allocate before the gradients go."""

    def on_optimizer_step(self, args, state, control, model=None, **kwargs):
        model.base_model.update_and_allocate(state.global_step)


def batch_of(examples):
    pictures = torch.stack([example["pixel_values"] for example in examples])
    labels = torch.tensor([example["labels"] for example in examples])
    return {"pixel_values": pictures, "labels": labels}


trainer = Trainer(
    adapted,
    arguments,
    train_dataset=rows,
    eval_dataset=rows[:16],
    compute_metrics=lambda pair: {"accuracy": float((np.argmax(pair[0], 1) == pair[1]).mean())},
    data_collator=batch_of,
    callbacks=[Allocate()],
)
trainer.train()
history = trainer.state.log_history
evaluated = trainer.evaluate(rows[:16])
adapted.save_pretrained("saved")
saved = PeftConfig.from_pretrained("saved")
again = PeftModel.from_pretrained(base_model("ViTForImageClassification", num_labels=3), "saved")
picture = rows[0]["pixel_values"][None]
with torch.no_grad():
    difference = (again.eval()(picture).logits - adapted(picture).logits).abs().max().item()

outcome = {
    "train_losses": [entry["loss"] for entry in history if "loss" in entry],
    "evaluation_losses": [entry["eval_loss"] for entry in history if "eval_loss" in entry],
    "final_evaluation": evaluated["eval_loss"],
    "kept": kept(adapted),
    "files": files("saved"),
    "modules_to_save": sorted(saved.modules_to_save),
    "reload_difference": difference,
}
