"""Text-only LoRA baseline that goes with our AdaLoRA experiments (plain LoRA, fixed rank)."""
from datasets import load_dataset
from peft import LoraConfig, get_peft_model
from transformers import (AutoModelForCausalLM, AutoTokenizer, DataCollatorForLanguageModeling,
                          Trainer, TrainingArguments)

BASE = "EleutherAI/pythia-410m"
RANK = 8


def get_data(tok):
    ds = load_dataset("wikitext", "wikitext-2-raw-v1")
    ds = ds.filter(lambda r: len(r["text"].strip()) > 20)
    return ds.map(lambda b: tok(b["text"], truncation=True, max_length=256),
                  batched=True, remove_columns=["text"])


def main():
    tok = AutoTokenizer.from_pretrained(BASE)
    tok.pad_token = tok.eos_token
    ds = get_data(tok)
    model = AutoModelForCausalLM.from_pretrained(BASE)
    model = get_peft_model(model, LoraConfig(
        task_type="CAUSAL_LM", r=RANK, lora_alpha=2 * RANK, lora_dropout=0.05,
        use_dora=True, target_modules=["query_key_value", "dense"]))
    model.print_trainable_parameters()
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            "baseline-lora", per_device_train_batch_size=8, gradient_accumulation_steps=2,
            num_train_epochs=1, learning_rate=2e-4, bf16=True, logging_steps=25,
            eval_strategy="steps", eval_steps=200),
        train_dataset=ds["train"], eval_dataset=ds["validation"],
        data_collator=DataCollatorForLanguageModeling(tok, mlm=False))
    trainer.train()
    print(trainer.evaluate())
    merged = model.merge_and_unload()
    merged.save_pretrained("baseline-lora/merged")
    tok.save_pretrained("baseline-lora/merged")


if __name__ == "__main__":
    main()
