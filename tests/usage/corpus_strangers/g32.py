"""TRL SFTTrainer with AdaLoRA. SFTTrainer wraps the model itself; the callback gets the wrapped one."""
import math

from datasets import load_dataset
from peft import AdaLoraConfig
from transformers import TrainerCallback
from trl import SFTConfig, SFTTrainer


class AdaLoraAllocation(TrainerCallback):
    def on_optimizer_step(self, args, state, control, model=None, **kwargs):
        model.base_model.update_and_allocate(state.global_step)

    def on_log(self, args, state, control, model=None, **kwargs):
        pattern = model.peft_config["default"].rank_pattern
        if pattern and state.is_world_process_zero:
            print("mean rank", sum(sum(v) for v in pattern.values()) / len(pattern))


train = load_dataset("trl-lib/Capybara", split="train")
held = load_dataset("trl-lib/Capybara", split="test")

sft = SFTConfig(
    output_dir="qwen-capybara-adalora",
    num_train_epochs=2,
    per_device_train_batch_size=2,
    gradient_accumulation_steps=8,
    gradient_checkpointing=True,
    gradient_checkpointing_kwargs={"use_reentrant": False},
    learning_rate=3e-4,
    lr_scheduler_type="cosine",
    warmup_ratio=0.03,
    bf16=True,
    packing=False,
    logging_steps=10,
    eval_strategy="epoch",
    save_strategy="epoch",
)

batches = math.ceil(len(train) / (sft.per_device_train_batch_size * sft.world_size))
updates = math.ceil(batches / sft.gradient_accumulation_steps) * int(sft.num_train_epochs)

peft_config = AdaLoraConfig(
    task_type="CAUSAL_LM",
    init_r=16,
    target_r=8,
    lora_alpha=32,
    lora_dropout=0.05,
    tinit=updates // 10,
    tfinal=updates // 4,
    deltaT=10,
    total_step=updates,
    target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
)

trainer = SFTTrainer(
    model="Qwen/Qwen2.5-0.5B",
    args=sft,
    train_dataset=train,
    eval_dataset=held,
    peft_config=peft_config,
    callbacks=[AdaLoraAllocation()],
)
trainer.train()
trainer.save_model()
