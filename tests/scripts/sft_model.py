"""Give SFTTrainer a model that has its adapter, on a base in 4 bits, and merge after training.

Source: huggingface/trl, docs/source/peft_integration.md (QLoRA, with `AdaLoraConfig`)
"""

from datasets import Dataset
from peft import AdaLoraConfig, get_peft_model, prepare_model_for_kbit_training
from script_parts import files, kept, saved_base, sentences, tokenizer
from transformers import (
    AutoModelForCausalLM,
    BitsAndBytesConfig,
    TrainerCallback,
)
from trl import SFTConfig, SFTTrainer

# attach: from adalora_core.bridge import attach

words = tokenizer()
data = Dataset.from_dict({"text": sentences(32)})
model = AutoModelForCausalLM.from_pretrained(
    saved_base("LlamaForCausalLM", hidden_size=64, intermediate_size=64),
    quantization_config=BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True
    ),
)
model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
model = get_peft_model(
    model,
    AdaLoraConfig(
        init_r=6,
        target_r=3,
        tinit=1,
        tfinal=2,
        deltaT=1,
        total_step=8,
        lora_alpha=16,
        task_type="CAUSAL_LM",
        target_modules="all-linear",
    ),
)
# attach: model = attach(model)


class Allocate(TrainerCallback):
    """Allocate before the gradients go."""

    def on_optimizer_step(self, args, state, control, model=None, **kwargs):
        model.update_and_allocate(state.global_step)


trainer = SFTTrainer(
    model=model,
    processing_class=words,
    args=SFTConfig(
        output_dir="sft",
        max_length=16,
        max_steps=8,
        per_device_train_batch_size=8,
        learning_rate=1e-2,
        logging_steps=1,
        gradient_checkpointing=False,
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        bf16=False,
    ),
    train_dataset=data,
    callbacks=[Allocate()],
)
trainer.train()
trainer.save_model("saved")
history = trainer.state.log_history

outcome = {
    "train_losses": [entry["loss"] for entry in history if "loss" in entry],
    "kept": kept(model),
    "files": files("saved"),
    "checkpoint": [name for name in files("sft/checkpoint-8") if "model" in name],
}
