from enum import Enum

import torch
from datasets import load_dataset
from peft import LoraConfig, TaskType
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

model_name = "google/gemma-2-2b-it"


class ChatTokens(str, Enum):
    tools = "<tools>"
    eotools = "</tools>"
    think = "<think>"
    eothink = "</think>"
    pad = "<pad>"

    @classmethod
    def list(cls):
        return [c.value for c in cls]


tokenizer = AutoTokenizer.from_pretrained(
    model_name, pad_token=ChatTokens.pad.value, additional_special_tokens=ChatTokens.list()
)
model = AutoModelForCausalLM.from_pretrained(model_name, attn_implementation="eager", device_map="auto")
model.resize_token_embeddings(len(tokenizer))
model.to(torch.bfloat16)

peft_config = LoraConfig(
    r=16,
    lora_alpha=64,
    lora_dropout=0.05,
    target_modules=["gate_proj", "q_proj", "lm_head", "o_proj", "k_proj", "embed_tokens", "down_proj", "up_proj", "v_proj"],
    task_type=TaskType.CAUSAL_LM,
)
rows = load_dataset("function-calls")
args = SFTConfig(output_dir="calls", per_device_train_batch_size=1, gradient_accumulation_steps=4, num_train_epochs=1)
trainer = SFTTrainer(
    model=model, args=args, train_dataset=rows["train"], processing_class=tokenizer, peft_config=peft_config
)
trainer.train()
trainer.save_model()
