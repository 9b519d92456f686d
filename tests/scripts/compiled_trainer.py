"""Train a compiled model with Trainer, save, load without compiling and generate.

Source: huggingface/peft, tests/test_torch_compile.py (the training with Trainer)
"""

import torch
from peft import AdaLoraConfig, PeftModel, get_peft_model
from script_parts import base_model, files, kept, sentences, tokenizer
from transformers import (
    DataCollatorForLanguageModeling,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

# attach: from adalora_core.bridge import attach

words = tokenizer()
rows = [words(text) for text in sentences(32)]
model = base_model("OPTForCausalLM")
sample = words(sentences(1, seed=3), return_tensors="pt")["input_ids"]
with torch.inference_mode():
    output_before = model(sample)
config = AdaLoraConfig(task_type="CAUSAL_LM", total_step=5)
model = get_peft_model(model, config)
# attach: model = attach(model)
model.train()
trainer = Trainer(
    model=model,
    train_dataset=rows,
    args=TrainingArguments(
        torch_compile=True,
        torch_compile_backend="eager",
        per_device_train_batch_size=4,
        max_steps=5,
        learning_rate=1e-2,
        logging_steps=1,
        output_dir="compiled",
        seed=0,
        report_to="none",
        disable_tqdm=True,
    ),
    data_collator=DataCollatorForLanguageModeling(words, mlm=False),
)
model.config.use_cache = False


class Allocate(TrainerCallback):
    """Allocate at the right moment."""

    def on_optimizer_step(self, args, state, control, **kwargs):
        model.update_and_allocate(state.global_step)


trainer.add_callback(Allocate())
trainer.train()
model.eval()
with torch.inference_mode():
    output_after = model(sample)
    tokens_after = model.generate(sample, max_new_tokens=4)
model.save_pretrained("saved")
loaded = PeftModel.from_pretrained(base_model("OPTForCausalLM"), "saved").eval()
with torch.inference_mode():
    output_loaded = loaded(sample)
    tokens_loaded = loaded.generate(sample, max_new_tokens=4)

outcome = {
    "train_losses": [entry["loss"] for entry in trainer.state.log_history if "loss" in entry],
    "kept": kept(model),
    "files": files("saved"),
    "updated": not torch.allclose(output_before.logits, output_after.logits, atol=1e-4),
    "reload_difference": (output_after.logits - output_loaded.logits).abs().max().item(),
    "same_tokens": bool((tokens_after == tokens_loaded).all()),
}
