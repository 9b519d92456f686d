"""Give SFTTrainer the configuration, train, save and load for inference.

Source: huggingface/peft, examples/sft/train.py (with `AdaLoraConfig`)
"""

from datasets import Dataset
from peft import AdaLoraConfig, PeftModel
from script_parts import base_model, files, kept, sentences, tokenizer
from transformers import set_seed
from trl import SFTConfig, SFTTrainer

set_seed(0)
words = tokenizer()
data = Dataset.from_dict({"text": sentences(32)})
peft_config = AdaLoraConfig(
    lora_alpha=16,
    lora_dropout=0.1,
    init_r=6,
    target_r=3,
    tinit=1,
    tfinal=2,
    total_step=8,
    bias="none",
    task_type="CAUSAL_LM",
    target_modules=["q_proj", "v_proj"],
)
arguments = SFTConfig(
    output_dir="sft",
    max_length=16,
    num_train_epochs=2,
    per_device_train_batch_size=8,
    learning_rate=1e-2,
    logging_steps=1,
    eval_strategy="epoch",
    gradient_checkpointing=True,
    gradient_checkpointing_kwargs={"use_reentrant": False},
    packing=False,
    report_to="none",
    disable_tqdm=True,
    use_cpu=True,
    bf16=False,
)
model = base_model("LlamaForCausalLM")
model.config.use_cache = not arguments.gradient_checkpointing
trainer = SFTTrainer(
    model=model,
    processing_class=words,
    args=arguments,
    train_dataset=data,
    eval_dataset=data,
    peft_config=peft_config,
)
trainer.model.print_trainable_parameters()
trainer.train(resume_from_checkpoint=None)
trainer.save_model()
again = PeftModel.from_pretrained(base_model("LlamaForCausalLM"), "sft")
history = trainer.state.log_history

outcome = {
    "train_losses": [entry["loss"] for entry in history if "loss" in entry],
    "evaluation_losses": [entry["eval_loss"] for entry in history if "eval_loss" in entry],
    "class": type(trainer.model).__name__,
    "kept": kept(trainer.model),
    "again": kept(again),
    "checkpoint": [name for name in files("sft/checkpoint-8") if "model" in name],
    "files": [name for name in files("sft") if "/" not in name],
}
