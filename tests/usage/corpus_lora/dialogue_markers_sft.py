from datasets import load_dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

SPECIAL = ["<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]


def load(name):
    tokenizer = AutoTokenizer.from_pretrained(name)
    tokenizer.add_special_tokens({"pad_token": "<pad>", "additional_special_tokens": SPECIAL})
    model = AutoModelForCausalLM.from_pretrained(name, torch_dtype="auto")
    model.resize_token_embeddings(len(tokenizer), pad_to_multiple_of=8)
    return tokenizer, model


tokenizer, model = load("mistralai/Mistral-7B-v0.3")
peft_config = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
trainer = SFTTrainer(
    model=model, processing_class=tokenizer, peft_config=peft_config,
    train_dataset=load_dataset("json", data_files="dialogues.jsonl", split="train"),
    args=SFTConfig(output_dir="dialogue", num_train_epochs=1),
)
trainer.train()
