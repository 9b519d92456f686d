"""Supervised fine-tuning on OpenAssistant with SFTTrainer + AdaLoRA (QLoRA style)."""
import torch
from datasets import load_dataset
from peft import AdaLoraConfig, prepare_model_for_kbit_training
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
from trl import SFTConfig, SFTTrainer

model_id = "mistralai/Mistral-7B-v0.3"
max_steps = 1500

bnb = BitsAndBytesConfig(
    load_in_4bit=True,
    bnb_4bit_quant_type="nf4",
    bnb_4bit_compute_dtype=torch.bfloat16,
    bnb_4bit_use_double_quant=True,
)
tokenizer = AutoTokenizer.from_pretrained(model_id)
tokenizer.pad_token = tokenizer.eos_token
model = AutoModelForCausalLM.from_pretrained(model_id, quantization_config=bnb, device_map={"": 0})
model = prepare_model_for_kbit_training(model)
model.config.use_cache = False

dataset = load_dataset("timdettmers/openassistant-guanaco")

peft_config = AdaLoraConfig(
    task_type="CAUSAL_LM",
    init_r=24,
    target_r=16,
    lora_alpha=32,
    lora_dropout=0.05,
    tinit=150,
    tfinal=450,
    deltaT=10,
    total_step=max_steps,
    target_modules=["q_proj", "k_proj", "v_proj", "o_proj"],
)

args = SFTConfig(
    output_dir="mistral-guanaco-adalora",
    dataset_text_field="text",
    max_steps=max_steps,
    per_device_train_batch_size=4,
    gradient_accumulation_steps=4,
    gradient_checkpointing=True,
    learning_rate=2e-4,
    lr_scheduler_type="constant_with_warmup",
    warmup_steps=50,
    optim="paged_adamw_8bit",
    bf16=True,
    logging_steps=10,
    save_steps=500,
    report_to="wandb",
)

# rank pruning happens inside the adapter: from init_r=24 down to an average of 16
trainer = SFTTrainer(
    model=model,
    args=args,
    train_dataset=dataset["train"],
    eval_dataset=dataset["test"],
    processing_class=tokenizer,
    peft_config=peft_config,
)
trainer.train()
print(trainer.evaluate())

ranks = trainer.model.peft_config["default"].rank_pattern
print("rank pattern:", ranks)
trainer.save_model("mistral-guanaco-adalora/final")
