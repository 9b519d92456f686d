"""Align a model by preferences with a callback that allocates between micro-batches.

TRL now adds a second trainable adapter where no reference model is given, which PEFT refuses; so
one is given.

Source: LrArctic/DPO-RMB-and-PS-AdaLoRA, MyProject/utils/code/adalora_dpo.py
"""

from datasets import Dataset
from peft import AdaLoraConfig, get_peft_model
from script_parts import files, kept, saved_base, sentences, tokenizer
from transformers import AutoModelForCausalLM, TrainerCallback
from trl import DPOConfig, DPOTrainer

# attach: from adalora_core.bridge import attach


class BetweenMicroBatches(TrainerCallback):
    """Allocate when the schedule does, while a micro-batch's gradients are there."""

    def __init__(self, model):
        self.model = model
        self.norms = []

    def on_substep_end(self, args, state, control, **kwargs):
        config = self.model.peft_config[self.model.trainable_adapter_name]
        late = state.global_step - config.tinit
        is_last = state.global_step == config.total_step - config.tfinal
        if is_last or (late >= 0 and late % config.deltaT == 0):
            self.model.update_and_allocate(global_step=state.global_step)
            self.norms += [
                module.lora_E["default"].norm().item()
                for name, module in self.model.named_modules()
                if name.endswith("q_proj") and hasattr(module, "lora_E")
            ]


words = tokenizer()
path = saved_base("LlamaForCausalLM")
model = AutoModelForCausalLM.from_pretrained(path, device_map="auto")
config = AdaLoraConfig(
    target_modules=["q_proj", "v_proj"],
    lora_alpha=32,
    lora_dropout=0.05,
    task_type="CAUSAL_LM",
    init_r=6,
    target_r=3,
    deltaT=1,
    tinit=2,
    tfinal=3,
    total_step=8,
    beta1=0.85,
    beta2=0.85,
    orth_reg_weight=0.5,
)
model = get_peft_model(model, config)
# attach: model = attach(model)
model.print_trainable_parameters()
data = Dataset.from_list(
    [
        {"prompt": prompt, "chosen": f" {chosen}", "rejected": f" {rejected}"}
        for prompt, chosen, rejected in zip(
            sentences(32), sentences(32, 4, 3), sentences(32, 4, 4), strict=True
        )
    ]
)
callback = BetweenMicroBatches(model)
trainer = DPOTrainer(
    model=model,
    ref_model=AutoModelForCausalLM.from_pretrained(path),
    args=DPOConfig(
        output_dir="dpo",
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
        max_steps=8,
        max_length=32,
        logging_steps=1,
        save_strategy="epoch",
        learning_rate=1e-2,
        remove_unused_columns=False,
        gradient_checkpointing=False,
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        bf16=False,
    ),
    train_dataset=data,
    processing_class=words,
    callbacks=[callback],
)
trainer.train()
model.save_pretrained("dpo/adapter")
words.save_pretrained("dpo/adapter")

outcome = {
    "train_losses": [entry["loss"] for entry in trainer.state.log_history if "loss" in entry],
    "norms": callback.norms,
    "kept": kept(model),
    "files": files("dpo/adapter"),
}
