import json

import torch
from datasets import Dataset
from peft import AdaLoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import DPOConfig, DPOTrainer

RUN_DIR = "./runs/qwen-smalltalk"


class AllocateRanks(TrainerCallback):
    def __init__(self, model, cfg):
        self.model = model
        self.every = cfg.deltaT
        self.first = cfg.tinit
        self.tail = cfg.tfinal

    def on_substep_end(self, args, state, control, **kwargs):
        now = state.global_step
        conf = self.model.peft_config[self.model.trainable_adapter_name]
        last = conf.total_step - self.tail
        due = now == self.first or now == last
        due = due or (now > self.first and (now - self.first) % self.every == 0)
        if due:
            print(f"[adalora] step {now}: new allocation")
            self.model.update_and_allocate(global_step=now)


policy = AutoModelForCausalLM.from_pretrained(
    "Qwen/Qwen2.5-1.5B-Instruct", torch_dtype=torch.bfloat16, device_map="auto"
)
cfg = AdaLoraConfig(
    task_type="CAUSAL_LM",
    target_modules=["q_proj", "v_proj"],
    init_r=32,
    target_r=16,
    tinit=100,
    tfinal=1250,  # stop adapting here
    deltaT=10,
    total_step=1398,
    lora_alpha=32,
    lora_dropout=0.05,
)
policy = get_peft_model(policy, cfg)
policy.print_trainable_parameters()

tokenizer = AutoTokenizer.from_pretrained("Qwen/Qwen2.5-1.5B-Instruct")
with open("pairs.json", encoding="utf-8") as fh:
    pairs = Dataset.from_list(json.load(fh))

trainer = DPOTrainer(
    model=policy,
    args=DPOConfig(
        output_dir=RUN_DIR,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        num_train_epochs=3,
        learning_rate=5e-5,
    ),
    train_dataset=pairs,
    processing_class=tokenizer,
    callbacks=[AllocateRanks(policy, cfg)],
)
trainer.train()
policy.save_pretrained(f"{RUN_DIR}/adapter")
