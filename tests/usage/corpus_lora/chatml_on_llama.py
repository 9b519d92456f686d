"""DPO warm-up: put ChatML onto a base Llama, then SFT."""
from datasets import load_dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer, setup_chat_format

BASE = "meta-llama/Llama-2-7b-hf"


def get_lora(rank: int) -> LoraConfig:
    return LoraConfig(
        r=rank,
        lora_alpha=rank * 2,
        target_modules="all-linear",
        lora_dropout=0.05,
        task_type="CAUSAL_LM",
    )


def run():
    model = AutoModelForCausalLM.from_pretrained(BASE, torch_dtype="auto")
    tok = AutoTokenizer.from_pretrained(BASE)
    model, tok = setup_chat_format(model, tok)
    data = load_dataset("HuggingFaceH4/ultrachat_200k", split="train_sft[:5%]")
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(output_dir="out/chatml", max_length=2048, packing=True),
        train_dataset=data,
        processing_class=tok,
        peft_config=get_lora(32),
    )
    trainer.train()
    trainer.model.save_pretrained("out/chatml/adapter")
    tok.save_pretrained("out/chatml/adapter")


if __name__ == "__main__":
    run()
