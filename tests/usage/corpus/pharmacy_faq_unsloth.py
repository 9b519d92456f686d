# ============================================================
# AdaLoRA: ranks follow the importance of the layers
# ============================================================
import torch
from datasets import load_dataset
from peft import AdaLoraConfig, TaskType, get_peft_model
from transformers import TrainingArguments
from trl import SFTTrainer
from unsloth import FastLanguageModel

model, tokenizer = FastLanguageModel.from_pretrained(
    model_name="unsloth/gemma-2-2b-it",
    max_seq_length=1024,
    load_in_4bit=True,
)

# starts at init_r, prunes towards target_r
rank_cfg = AdaLoraConfig(
    init_r=16,  # at the start
    target_r=8,  # after pruning
    lora_alpha=32,
    lora_dropout=0.05,
    target_modules=["q_proj", "k_proj", "v_proj", "o_proj"],
    task_type=TaskType.CAUSAL_LM,
)
model = get_peft_model(model, rank_cfg)
model.print_trainable_parameters()

faq = load_dataset("json", data_files="pharmacy_faq.jsonl", split="train").train_test_split(0.1, seed=3)


def to_text(row):
    return {
        "text": f"Question: {row['question']}\n\nAnswer: {row['answer']}{tokenizer.eos_token}"
    }


trainer = SFTTrainer(
    model=model,
    tokenizer=tokenizer,
    train_dataset=faq["train"].map(to_text),
    eval_dataset=faq["test"].map(to_text),
    dataset_text_field="text",
    max_seq_length=1024,
    args=TrainingArguments(
        output_dir="pharmacy",
        per_device_train_batch_size=2,
        gradient_accumulation_steps=4,
        num_train_epochs=3,
        learning_rate=2e-4,
        bf16=torch.cuda.is_bf16_supported(),
        optim="adamw_8bit",
        report_to="none",
    ),
)
stats = trainer.train()
print(stats.metrics["train_runtime"], "s")
model.save_pretrained("pharmacy/adapter")
