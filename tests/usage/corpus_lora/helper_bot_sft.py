import torch
from datasets import load_dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
from trl import SFTConfig, SFTTrainer

base = "mistralai/Mistral-7B-Instruct-v0.2"
quant = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=torch.bfloat16)
model = AutoModelForCausalLM.from_pretrained(base, quantization_config=quant, device_map={"": 0})
tokenizer = AutoTokenizer.from_pretrained(base)
tokenizer.pad_token = tokenizer.eos_token
peft_config = LoraConfig(
    lora_alpha=16,
    lora_dropout=0.1,
    r=64,
    bias="none",
    task_type="CAUSAL_LM",
    target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "lm_head"],
)
trainer = SFTTrainer(
    model=model,
    train_dataset=load_dataset("timdettmers/openassistant-guanaco", split="train"),
    peft_config=peft_config,
    processing_class=tokenizer,
    args=SFTConfig(output_dir="bot", max_steps=500, learning_rate=2e-4, packing=True),
)
trainer.train()
