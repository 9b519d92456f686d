"""Follow the documentation: wrap, train, save, load for inference by one class and train on.

Source: huggingface/peft, docs/source/quicktour.md (with `AdaLoraConfig`)
"""

from peft import AdaLoraConfig, AutoPeftModelForCausalLM, PeftModel, TaskType, get_peft_model
from script_parts import files, kept, saved_base, token_rows
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

path = saved_base("LlamaForCausalLM")
rows = [{"input_ids": row, "labels": row} for row in token_rows(32)]
peft_config = AdaLoraConfig(
    target_modules=["q_proj"],
    task_type=TaskType.CAUSAL_LM,
    inference_mode=False,
    init_r=6,
    target_r=3,
    tinit=1,
    tfinal=2,
    total_step=8,
    lora_alpha=32,
    lora_dropout=0.1,
)
model = AutoModelForCausalLM.from_pretrained(path)
peft_model = get_peft_model(model, peft_config)
peft_model.print_trainable_parameters()
trainer = Trainer(
    model=peft_model,
    args=TrainingArguments(
        output_dir="tour",
        learning_rate=1e-3,
        per_device_train_batch_size=8,
        per_device_eval_batch_size=8,
        num_train_epochs=2,
        weight_decay=0.01,
        eval_strategy="epoch",
        save_strategy="epoch",
        load_best_model_at_end=True,
        label_smoothing_factor=0.1,
        logging_steps=1,
        report_to="none",
        disable_tqdm=True,
    ),
    train_dataset=rows,
    eval_dataset=rows[:8],
)
trainer.train()
history = trainer.state.log_history
peft_model.save_pretrained("output_dir")
loaded = AutoPeftModelForCausalLM.from_pretrained("output_dir").to("cpu")
loaded.eval()
tokens = loaded.generate(input_ids=rows[0]["input_ids"][None], max_new_tokens=4)
trained_on = PeftModel.from_pretrained(
    AutoModelForCausalLM.from_pretrained(path), "output_dir", is_trainable=True
)
trained_on.train()
loss = trained_on(input_ids=rows[0]["input_ids"][None], labels=rows[0]["labels"][None]).loss
loss.backward()
gradients = sum(p.grad is not None for p in trained_on.parameters())

outcome = {
    "train_losses": [entry["loss"] for entry in history if "loss" in entry],
    "evaluation_losses": [entry["eval_loss"] for entry in history if "eval_loss" in entry],
    "kept": kept(peft_model),
    "checkpoint": [name for name in files("tour/checkpoint-8") if "model" in name],
    "files": files("output_dir"),
    "tokens": tokens.tolist(),
    "loss_after": loss.item(),
    "gradients": gradients,
}
