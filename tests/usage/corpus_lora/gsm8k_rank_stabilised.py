"""rsLoRA at high rank on GSM8K."""
import torch
from datasets import load_dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

MODEL_ID = "mistralai/Mistral-7B-v0.3"

tok = AutoTokenizer.from_pretrained(MODEL_ID)
tok.pad_token = tok.eos_token

gsm = load_dataset("openai/gsm8k", "main", split="train")
gsm = gsm.map(
    lambda r: {"prompt": f"Question: {r['question']}\nAnswer:", "completion": " " + r["answer"]},
    remove_columns=gsm.column_names,
)

# rank-stabilised: scale = alpha / sqrt(r) = 16 / 16 = 1
config = LoraConfig(
    r=256,
    lora_alpha=16,
    use_rslora=True,
    lora_dropout=0.0,
    target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    task_type="CAUSAL_LM",
)

trainer = SFTTrainer(
    model=AutoModelForCausalLM.from_pretrained(MODEL_ID, torch_dtype=torch.bfloat16),
    args=SFTConfig(
        output_dir="mistral-gsm8k-rslora",
        per_device_train_batch_size=4,
        gradient_accumulation_steps=8,
        gradient_checkpointing=True,
        learning_rate=5e-5,
        num_train_epochs=3,
        bf16=True,
    ),
    train_dataset=gsm,
    processing_class=tok,
    peft_config=config,
)
trainer.train()
trainer.save_model()
