"""Train on a base in 4 bits with Trainer and a callback after the optimizer step.

The reentrant checkpointing of the source has no gradients in bitsandbytes' CPU kernels.

Source: huggingface/peft, tests/test_gpu_examples.py (test_4bit_adalora_causalLM)
"""

from peft import AdaLoraConfig, get_peft_model, prepare_model_for_kbit_training
from script_parts import files, kept, saved_base, sentences, tokenizer
from transformers import (
    AutoModelForCausalLM,
    BitsAndBytesConfig,
    DataCollatorForLanguageModeling,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

path = saved_base("LlamaForCausalLM", hidden_size=64, intermediate_size=64)
model = AutoModelForCausalLM.from_pretrained(
    path, quantization_config=BitsAndBytesConfig(load_in_4bit=True)
)
words = tokenizer()
model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
model = prepare_model_for_kbit_training(
    model, gradient_checkpointing_kwargs={"use_reentrant": False}
)
peft_config = AdaLoraConfig(
    init_r=6,
    target_r=4,
    tinit=2,
    tfinal=2,
    total_step=6,
    deltaT=5,
    beta1=0.3,
    beta2=0.3,
    orth_reg_weight=0.2,
    lora_alpha=32,
    lora_dropout=0.05,
    bias="none",
    task_type="CAUSAL_LM",
)
model = get_peft_model(model, peft_config)
rows = [words(text) for text in sentences(32)]
batch = words(sentences(3), return_tensors="pt", padding=True)
model.eval()
finite = bool(model(**batch).logits.isfinite().all())
model.train()


class Allocate(TrainerCallback):
    """Allocate at the right moment."""

    def on_optimizer_step(self, args, state, control, **kwargs):
        model.update_and_allocate(state.global_step)


trainer = Trainer(
    model=model,
    train_dataset=rows,
    args=TrainingArguments(
        per_device_train_batch_size=4,
        gradient_accumulation_steps=4,
        warmup_steps=2,
        max_steps=6,
        learning_rate=2e-3,
        logging_steps=1,
        output_dir="qlora",
        report_to="none",
        disable_tqdm=True,
    ),
    data_collator=DataCollatorForLanguageModeling(words, mlm=False),
)
model.config.use_cache = False
trainer.add_callback(Allocate())
trainer.train()
model.cpu().save_pretrained("saved")

outcome = {
    "finite": finite,
    "train_losses": [entry["loss"] for entry in trainer.state.log_history if "loss" in entry],
    "kept": kept(model),
    "files": files("saved"),
    "checkpoint": [name for name in files("qlora/checkpoint-6") if "model" in name],
}
