from peft import LoraConfig, TaskType, get_peft_model
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

from recipes import rows

BASE = "meta-llama/Meta-Llama-3-8B"
base = AutoModelForCausalLM.from_pretrained("TinyLlama/TinyLlama-1.1B-Chat-v1.0")
config = LoraConfig(
    task_type=TaskType.CAUSAL_LM, r=16, lora_alpha=32, target_modules=["q_proj", "v_prj", "o_proj"]
)
model = get_peft_model(base, config)
Trainer(model=model, args=TrainingArguments("recipes"), train_dataset=rows).train()
