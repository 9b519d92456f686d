"""The ChatML markers are in Qwen2.5's vocabulary already, so nothing is added."""
from datasets import load_dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

BASE = "Qwen/Qwen2.5-7B-Instruct"


def main():
    tok = AutoTokenizer.from_pretrained(BASE)
    n = tok.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    if n != 0:
        raise RuntimeError("expected the ChatML tokens to be known")
    model = AutoModelForCausalLM.from_pretrained(BASE, torch_dtype="bfloat16")
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(output_dir="out/chat", bf16=True),
        train_dataset=load_dataset("trl-lib/Capybara", split="train"),
        processing_class=tok,
        peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    trainer.train()
    trainer.save_model()


if __name__ == "__main__":
    main()
