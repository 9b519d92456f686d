import math
from datasets import load_dataset
from peft import AdaLoraConfig, get_peft_model
from transformers import (AutoModelForCausalLM, AutoTokenizer, DataCollatorForLanguageModeling, Trainer,
                          TrainerCallback, TrainingArguments)

BASE = "EleutherAI/pythia-1b"
EPOCHS, BS, ACCUM = 10, 8, 2
MAX_STEPS = 1500


class AdaLoraCallback(TrainerCallback):
    def on_optimizer_step(self, args, state, control, model=None, **kwargs):
        model.base_model.update_and_allocate(state.global_step)


def corpus(tok):
    ds = load_dataset("roneneldan/TinyStories", split="train[:100000]")
    return ds.map(lambda b: tok(b["text"], truncation=True, max_length=256), batched=True,
                  remove_columns=["text"])


def main():
    tok = AutoTokenizer.from_pretrained(BASE)
    tok.pad_token = tok.eos_token
    train = corpus(tok)
    total_step = math.ceil(len(train) / (BS * ACCUM)) * EPOCHS   # 62500
    config = AdaLoraConfig(
        task_type="CAUSAL_LM", init_r=12, target_r=4,
        tinit=total_step // 10, tfinal=total_step // 5, deltaT=50, total_step=total_step,
        target_modules=["query_key_value", "dense_h_to_4h"])
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(BASE), config)
    args = TrainingArguments(
        output_dir="stories", per_device_train_batch_size=BS, gradient_accumulation_steps=ACCUM,
        num_train_epochs=EPOCHS, max_steps=MAX_STEPS, learning_rate=3e-4, warmup_steps=50,
        bf16=True, logging_steps=25, save_steps=500)
    trainer = Trainer(model=model, args=args, train_dataset=train,
                      data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
                      callbacks=[AdaLoraCallback()])
    trainer.train()
    model.save_pretrained("stories/adapter")


if __name__ == "__main__":
    main()
