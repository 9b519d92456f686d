import math

import torch
from datasets import load_dataset
from peft import AdaLoraConfig, TaskType, prepare_model_for_kbit_training
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
from trl import SFTConfig, SFTTrainer

MODEL_ID = "mistralai/Mistral-7B-Instruct-v0.3"
N_EPOCHS = 10
BS = 2
GRAD_ACC = 4

tokenizer = AutoTokenizer.from_pretrained(MODEL_ID)
tokenizer.pad_token = tokenizer.eos_token
letters = load_dataset("json", data_files="letters.json", split="train")


def as_chat(row):
    return {
        "prompt": [{"role": "user", "content": row["job"].strip()}],
        "completion": [{"role": "assistant", "content": row["letter"].strip()}],
    }


train_set = letters.map(as_chat, remove_columns=letters.column_names)

# optimizer updates on one GPU
updates = max(1, math.ceil(len(train_set) / (BS * GRAD_ACC)) * N_EPOCHS)
warm = max(1, int(0.1 * updates))
tail = max(1, int(0.1 * updates))

bnb = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16)
llm = AutoModelForCausalLM.from_pretrained(MODEL_ID, quantization_config=bnb, device_map="auto")
llm = prepare_model_for_kbit_training(llm)

rank_config = AdaLoraConfig(
    task_type=TaskType.CAUSAL_LM,
    init_r=16,
    target_r=8,
    lora_alpha=16,
    lora_dropout=0.05,
    target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj"],
    total_step=updates,
    tinit=warm,
    tfinal=tail,
    deltaT=max(1, int(0.01 * updates)),
    orth_reg_weight=0.5,
)

trainer = SFTTrainer(
    model=llm,
    args=SFTConfig(
        output_dir="letters_ckpt",
        num_train_epochs=N_EPOCHS,
        per_device_train_batch_size=BS,
        gradient_accumulation_steps=GRAD_ACC,
        optim="paged_adamw_8bit",
        bf16=True,
    ),
    train_dataset=train_set,
    processing_class=tokenizer,
    peft_config=rank_config,
)
trainer.model.print_trainable_parameters()
trainer.train()
trainer.save_model("letters_adapter")
