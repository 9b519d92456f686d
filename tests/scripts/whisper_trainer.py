"""Train a speech model with Seq2SeqTrainer, stop, load the adapter of a checkpoint and go on.

Source: yeyupiaoling/Whisper-Finetune, finetune.py (with the callback of utils/callback.py)
"""

import os

import torch
from peft import AdaLoraConfig, PeftModel, get_peft_model, prepare_model_for_kbit_training
from script_parts import base_model, files, kept, numbers, token_rows
from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments, TrainerCallback

# attach: from adalora_core.bridge import attach


class AdapterBesideCheckpoint(TrainerCallback):
    """Save the adapter beside each checkpoint."""

    def on_save(self, args, state, control, **kwargs):
        folder = os.path.join(args.output_dir, f"checkpoint-{state.global_step}", "adapter_model")
        kwargs["model"].save_pretrained(folder)
        return control


def let_gradients_through(module, input, output):
    """Let gradients reach the adapters under checkpointing."""
    output.requires_grad_(True)


rows = [
    {"input_features": sound, "labels": text}
    for sound, text in zip(numbers(32, 4, 16), token_rows(32, 5), strict=True)
]


def train(checkpoint=None, epochs=1):
    """Train for some epochs, from the adapter of a checkpoint if there is one."""
    model = base_model("WhisperForConditionalGeneration")
    model.config.forced_decoder_ids = None
    model = prepare_model_for_kbit_training(model)
    model.model.encoder.conv1.register_forward_hook(let_gradients_through)
    if checkpoint:
        model = PeftModel.from_pretrained(model, checkpoint, is_trainable=True)
        # attach: model = attach(model)
    else:
        config = AdaLoraConfig(
            init_r=6,
            target_r=3,
            beta1=0.85,
            beta2=0.85,
            tinit=2,
            tfinal=10,
            deltaT=1,
            lora_alpha=32,
            lora_dropout=0.1,
            orth_reg_weight=0.5,
            target_modules=["k_proj", "q_proj", "v_proj", "out_proj", "fc1", "fc2"],
            total_step=2 * len(rows),
        )
        model = get_peft_model(model, config)
        # attach: model = attach(model)
    arguments = Seq2SeqTrainingArguments(
        output_dir="whisper",
        per_device_train_batch_size=8,
        per_device_eval_batch_size=8,
        gradient_accumulation_steps=1,
        learning_rate=1e-2,
        warmup_steps=1,
        num_train_epochs=epochs,
        save_strategy="steps",
        eval_strategy="steps",
        load_best_model_at_end=True,
        save_steps=2,
        eval_steps=2,
        logging_steps=1,
        remove_unused_columns=False,
        label_names=["labels"],
        report_to="none",
        disable_tqdm=True,
    )
    trainer = Seq2SeqTrainer(
        args=arguments,
        model=model,
        train_dataset=rows,
        eval_dataset=rows[:8],
        callbacks=[AdapterBesideCheckpoint],
    )
    model.config.use_cache = False
    trainer.train(resume_from_checkpoint=checkpoint)
    trainer.save_state()
    model.config.use_cache = True
    model.save_pretrained(os.path.join("whisper", "checkpoint-final"))
    return trainer, model


first, _ = train()
second, model = train("whisper/checkpoint-4", epochs=2)
history = second.state.log_history
again = PeftModel.from_pretrained(
    base_model("WhisperForConditionalGeneration"), "whisper/checkpoint-final"
).eval()
inputs = {
    "input_features": rows[0]["input_features"][None],
    "decoder_input_ids": rows[0]["labels"][None],
}
with torch.no_grad():
    difference = (again(**inputs).logits - model.eval()(**inputs).logits).abs().max().item()

outcome = {
    "train_losses": [entry["loss"] for entry in history if "loss" in entry],
    "evaluation_losses": [entry["eval_loss"] for entry in history if "eval_loss" in entry],
    "steps": second.state.global_step,
    "kept": kept(model),
    "checkpoint": [name for name in files("whisper/checkpoint-8") if "model" in name],
    "files": files("whisper/checkpoint-final"),
    "reload_difference": difference,
}
