"""Allocate in `on_step_end`, where Trainer has already dropped the gradients.

Source: huggingface/peft, examples/adalora_with_dora/run_glue.py (commit e28548581, without DoRA)
"""

import numpy as np
from peft import AdaLoraConfig, TaskType, get_peft_model
from script_parts import base_model, files, kept, sentences, tokenizer
from transformers import Trainer, TrainerCallback, TrainingArguments, default_data_collator


class AllocateLate(TrainerCallback):
    """Allocate after each step of the model that it is given."""

    def __init__(self, model):
        self.model = model

    def on_step_end(self, args, state, control, **kwargs):
        if hasattr(self.model.base_model, "update_and_allocate"):
            self.model.base_model.update_and_allocate(state.global_step)


words = tokenizer()
rows = [{**words(text), "labels": n % 2} for n, text in enumerate(sentences(48))]
model = base_model("RobertaForSequenceClassification", num_labels=2)
peft_config = AdaLoraConfig(
    task_type=TaskType.SEQ_CLS,
    inference_mode=False,
    init_r=6,
    target_r=3,
    lora_alpha=32,
    lora_dropout=0.1,
    target_modules=["query", "value"],
    tinit=2,
    tfinal=4,
    deltaT=1,
    total_step=12,
)
model = get_peft_model(model, peft_config)
model.print_trainable_parameters()
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        output_dir="glue",
        max_steps=12,
        per_device_train_batch_size=8,
        learning_rate=5e-3,
        logging_steps=1,
        report_to="none",
        disable_tqdm=True,
    ),
    train_dataset=rows,
    eval_dataset=rows[:16],
    compute_metrics=lambda pair: {"accuracy": float((np.argmax(pair[0], 1) == pair[1]).mean())},
    processing_class=words,
    data_collator=default_data_collator,
    callbacks=[AllocateLate(model)],
)
result = trainer.train()
trainer.save_model()
trainer.log_metrics("train", result.metrics)
trainer.save_metrics("train", result.metrics)
trainer.save_state()
metrics = trainer.evaluate(eval_dataset=rows[:16])

outcome = {
    "train_losses": [entry["loss"] for entry in trainer.state.log_history if "loss" in entry],
    "evaluation_loss": metrics["eval_loss"],
    "kept": kept(model),
    "files": [name for name in files("glue") if "/" not in name],
}
