"""Find answers in a text with Trainer, label smoothing and checkpoints, stop and resume.

Source: RifqiCah/Adalora_indonesiaDataset, notebooks/03_modelling.ipynb (the model for questions)
"""

import torch
from peft import AdaLoraConfig, PeftModel, TaskType, get_peft_model
from script_parts import base_model, files, kept, token_rows
from transformers import Trainer, TrainingArguments, default_data_collator

# attach: from adalora_core.bridge import attach

rows = [
    {"input_ids": row, "start_positions": n % 8, "end_positions": (n + 1) % 8}
    for n, row in enumerate(token_rows(32))
]
total_steps = 12


def trainer_for(epochs):
    """Return a Trainer over a model with a fresh adapter."""
    torch.manual_seed(0)
    model = base_model("BertForQuestionAnswering")
    peft_config = AdaLoraConfig(
        task_type=TaskType.QUESTION_ANS,
        inference_mode=False,
        r=8,
        lora_alpha=32,
        target_modules=["query", "value"],
        lora_dropout=0.0,
        bias="none",
        init_r=6,
        target_r=3,
        beta1=0.85,
        beta2=0.85,
        tinit=int(total_steps * 0.1),
        tfinal=int(total_steps * 0.2),
        deltaT=1,
        total_step=total_steps,
    )
    model = get_peft_model(model, peft_config)
    # attach: model = attach(model)
    arguments = TrainingArguments(
        output_dir="qa",
        learning_rate=1e-2,
        per_device_train_batch_size=8,
        num_train_epochs=epochs,
        weight_decay=0.01,
        save_strategy="epoch",
        eval_strategy="epoch",
        logging_steps=1,
        report_to="none",
        disable_tqdm=True,
    )
    return model, Trainer(
        model=model,
        args=arguments,
        train_dataset=rows,
        eval_dataset=rows[:8],
        data_collator=default_data_collator,
    )


model, trainer = trainer_for(3)
trainer.train()
whole = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
resumed_model, resumed = trainer_for(3)
resumed.train(resume_from_checkpoint="qa/checkpoint-8")
resumed_losses = [entry["loss"] for entry in resumed.state.log_history if "loss" in entry]
resumed.save_model("saved")
again = PeftModel.from_pretrained(base_model("BertForQuestionAnswering"), "saved").eval()
inputs = rows[0]["input_ids"][None]
with torch.no_grad():
    expected = resumed_model.eval()(inputs).start_logits
    difference = (again(inputs).start_logits - expected).abs().max().item()
evaluations = [entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry]

outcome = {
    "train_losses": whole,
    "resumed_losses": resumed_losses,
    "evaluation_losses": evaluations,
    "kept": kept(model),
    "checkpoint": [name for name in files("qa/checkpoint-8") if "model" in name],
    "files": files("saved"),
    "reload_difference": difference,
}
