"""DPO with the SFT adapter twice; only the policy is trained."""
from datasets import load_dataset
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer

BASE = "Qwen/Qwen2.5-7B-Instruct"
SFT = "runs/sft/adapter"

base = AutoModelForCausalLM.from_pretrained(BASE, torch_dtype="bfloat16")
model = PeftModel.from_pretrained(base, SFT, adapter_name="policy", is_trainable=True)
# the reference stays frozen, which is load_adapter's default
model.load_adapter(SFT, adapter_name="reference")

trainer = DPOTrainer(
    model=model,
    args=DPOConfig(
        output_dir="runs/dpo",
        beta=0.1,
        model_adapter_name="policy",
        ref_adapter_name="reference",
        bf16=True,
    ),
    train_dataset=load_dataset("trl-lib/ultrafeedback_binarized", split="train"),
    processing_class=AutoTokenizer.from_pretrained(BASE),
)
trainer.train()
model.save_pretrained("runs/dpo/adapter", selected_adapters=["policy"])
