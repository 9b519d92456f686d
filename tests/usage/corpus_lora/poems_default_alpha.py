"""Sentiment-steered GPT-2 poems, GPT-2's Conv1D layers."""
from datasets import load_dataset
from peft import LoraConfig, TaskType, get_peft_model
from transformers import (
    DataCollatorForLanguageModeling,
    GPT2LMHeadModel,
    GPT2TokenizerFast,
    Trainer,
    TrainingArguments,
    pipeline,
)

tokenizer = GPT2TokenizerFast.from_pretrained("gpt2-medium")
tokenizer.pad_token = tokenizer.eos_token
model = GPT2LMHeadModel.from_pretrained("gpt2-medium")

# alpha left at PEFT's default of 8, equal to r
config = LoraConfig(
    task_type=TaskType.CAUSAL_LM,
    r=8,
    lora_dropout=0.05,
    target_modules=["c_attn"],
    fan_in_fan_out=True,
)
model = get_peft_model(model, config)
model.print_trainable_parameters()

poems = load_dataset("merve/poetry", split="train")


def tok(b):
    return tokenizer([t.strip() + tokenizer.eos_token for t in b["content"]], truncation=True, max_length=256)


poems = poems.filter(lambda r: r["content"] is not None).map(tok, batched=True, remove_columns=poems.column_names)

args = TrainingArguments(
    output_dir="gpt2-poems",
    learning_rate=5e-4,
    num_train_epochs=8,
    per_device_train_batch_size=8,
    logging_steps=20,
    save_strategy="no",
)
trainer = Trainer(
    model=model,
    args=args,
    train_dataset=poems,
    data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),
)
trainer.train()
model.save_pretrained("gpt2-poems")

merged = model.merge_and_unload()
gen = pipeline("text-generation", model=merged, tokenizer=tokenizer)
print(gen("O silent moon,", max_new_tokens=60, do_sample=True)[0]["generated_text"])
