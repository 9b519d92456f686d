"""DPO with two copies of the SFT adapter: one policy, one reference."""
from datasets import load_dataset
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer

BASE = "mistralai/Mistral-7B-Instruct-v0.3"
SFT = "runs/sft/adapter"


def build():
    base = AutoModelForCausalLM.from_pretrained(BASE, torch_dtype="bfloat16")
    base.config.use_cache = False
    base.enable_input_require_grads()
    model = PeftModel.from_pretrained(base, SFT, adapter_name="policy")
    model.load_adapter(SFT, adapter_name="reference", is_trainable=True)
    return model


def main():
    tok = AutoTokenizer.from_pretrained(BASE)
    tok.pad_token = tok.eos_token
    args = DPOConfig(
        output_dir="runs/dpo",
        beta=0.1,
        learning_rate=5e-6,
        model_adapter_name="policy",
        ref_adapter_name="reference",
        gradient_checkpointing=True,
        bf16=True,
    )
    trainer = DPOTrainer(
        model=build(),
        args=args,
        train_dataset=load_dataset("trl-lib/ultrafeedback_binarized", split="train"),
        processing_class=tok,
    )
    trainer.train()
    trainer.model.save_pretrained("runs/dpo/adapter", selected_adapters=["policy"])


if __name__ == "__main__":
    main()
