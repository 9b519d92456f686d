"""Mixtral attention and experts (transformers 4.x names)."""
import torch
from datasets import load_dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

NAME = "mistralai/Mixtral-8x7B-v0.1"
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
EXPERTS = ["w1", "w2", "w3"]  # needs transformers<5


def main(experts=True):
    tok = AutoTokenizer.from_pretrained(NAME)
    tok.pad_token = tok.eos_token
    model = AutoModelForCausalLM.from_pretrained(NAME, torch_dtype=torch.bfloat16, device_map="auto")
    config = LoraConfig(
        r=8,
        lora_alpha=16,
        target_modules=[*ATTENTION, *(EXPERTS if experts else [])],
        task_type="CAUSAL_LM",
    )
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig("out/mixtral", bf16=True, gradient_checkpointing=True),
        train_dataset=load_dataset("trl-lib/Capybara", split="train"),
        processing_class=tok,
        peft_config=config,
    )
    trainer.train()
    trainer.save_model()


if __name__ == "__main__":
    main()
