"""Allocate from inside `model.zero_grad`, which a callback replaces at the begin of training.

Source: modelscope/ms-swift, swift/callbacks/adalora.py, with what its import replaces in PEFT.
"""

import types

from ms_swift_patch import patch_peft
from peft import AdaLoraConfig, get_peft_model
from script_parts import base_model, kept, token_rows
from transformers import Trainer, TrainerCallback, TrainingArguments

# attach: from adalora_core.bridge import attach

patch_peft()


class AllocateInZeroGrad(TrainerCallback):
    """Set the number of steps, and allocate before the gradients go."""

    def __init__(self):
        self.last = 0

    def on_train_begin(self, args, state, control, **kwargs):
        model = kwargs["model"]
        model.peft_config["default"].total_step = state.max_steps
        drop = model.zero_grad

        def allocate_and_drop(adapted, *arguments, **named):
            adapted.update_and_allocate(self.last + 1)
            drop(*arguments, **named)

        model.zero_grad = types.MethodType(allocate_and_drop, model)

    def on_step_end(self, args, state, control, **kwargs):
        self.last = state.global_step


rows = [{"input_ids": row, "labels": row} for row in token_rows(64)]
config = AdaLoraConfig(
    task_type="CAUSAL_LM",
    target_modules=["q_proj", "v_proj"],
    lora_alpha=32,
    lora_dropout=0.05,
    target_r=3,
    init_r=6,
    tinit=2,
    tfinal=4,
    deltaT=1,
    beta1=0.85,
    beta2=0.85,
    orth_reg_weight=0.5,
    total_step=1000,
)
model = get_peft_model(base_model("LlamaForCausalLM"), config)
# attach: model = attach(model)
arguments = TrainingArguments(
    output_dir="swift",
    max_steps=16,
    per_device_train_batch_size=4,
    learning_rate=1e-2,
    logging_steps=1,
    save_strategy="no",
    report_to="none",
    disable_tqdm=True,
)
trainer = Trainer(model=model, args=arguments, train_dataset=rows, callbacks=[AllocateInZeroGrad()])
trainer.train()

outcome = {
    "train_losses": [entry["loss"] for entry in trainer.state.log_history if "loss" in entry],
    "kept": kept(model),
    "total_step": model.peft_config["default"].total_step,
}
