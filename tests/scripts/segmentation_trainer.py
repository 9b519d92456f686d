"""Segment pictures with Trainer, training biases and the whole head beside the adapter.

Source: huggingface/peft, examples/semantic_segmentation/semantic_segmentation_peft_lora.ipynb (with
`AdaLoraConfig` and a callback)
"""

import torch
from peft import AdaLoraConfig, PeftConfig, PeftModel, get_peft_model
from script_parts import base_model, files, kept, numbers
from transformers import Trainer, TrainerCallback, TrainingArguments

# attach: from adalora_core.bridge import attach

names = {0: "wall", 1: "floor", 2: "door"}
rows = [
    {"pixel_values": picture, "labels": (picture[0, ::1, ::1] > 0).long()}
    for picture in numbers(32, 3, 16, 16)
]
model = base_model("SegformerForSemanticSegmentation", num_labels=3)
config = AdaLoraConfig(
    init_r=6,
    target_r=3,
    tinit=1,
    tfinal=3,
    deltaT=1,
    total_step=8,
    lora_alpha=32,
    target_modules=["q_proj", "v_proj"],
    bias="lora_only",
    modules_to_save=["decode_head"],
)
adapted = get_peft_model(model, config)
# attach: adapted = attach(adapted)
trainable = sorted(n for n, p in adapted.named_parameters() if p.requires_grad)


class Allocate(TrainerCallback):
    """Allocate before the gradients go."""

    def on_optimizer_step(self, args, state, control, model=None, **kwargs):
        model.base_model.update_and_allocate(state.global_step)


trainer = Trainer(
    model=adapted,
    args=TrainingArguments(
        output_dir="segmentation",
        learning_rate=5e-3,
        num_train_epochs=2,
        per_device_train_batch_size=8,
        per_device_eval_batch_size=2,
        save_total_limit=3,
        eval_strategy="epoch",
        save_strategy="epoch",
        logging_steps=1,
        remove_unused_columns=False,
        label_names=["labels"],
        report_to="none",
        disable_tqdm=True,
    ),
    train_dataset=rows,
    eval_dataset=rows[:8],
    callbacks=[Allocate()],
)
trainer.train()
history = trainer.state.log_history
adapted.save_pretrained("saved")
config = PeftConfig.from_pretrained("saved")
model = base_model("SegformerForSemanticSegmentation", num_labels=3)
again = PeftModel.from_pretrained(model, "saved").eval()
picture = rows[0]["pixel_values"][None]
with torch.no_grad():
    expected = adapted.eval()(picture).logits
    difference = (again(picture).logits - expected).abs().max().item()

outcome = {
    "train_losses": [entry["loss"] for entry in history if "loss" in entry],
    "evaluation_losses": [entry["eval_loss"] for entry in history if "eval_loss" in entry],
    "trainable": len(trainable),
    "kept": kept(adapted),
    "files": files("saved"),
    "bias": config.bias,
    "reload_difference": difference,
}
