"""Fine-tune GPT-2 medium on dialogues and export a standalone checkpoint for serving."""
import torch
from datasets import load_dataset
from peft import AdaLoraConfig, get_peft_model
from transformers import (AutoModelForCausalLM, AutoTokenizer, DataCollatorForLanguageModeling,
                          Trainer, TrainerCallback, TrainingArguments)

BASE = "gpt2-medium"
EXPORT = "export/dialog-gpt2"
STEPS = 3000


class AdaLoraHook(TrainerCallback):
    def on_optimizer_step(self, args, state, control, model=None, **kwargs):
        model.base_model.update_and_allocate(state.global_step)


def data(tok):
    ds = load_dataset("li2017dailydialog/daily_dialog", split="train", trust_remote_code=True)

    def f(b):
        return tok(["\n".join(d) + tok.eos_token for d in b["dialog"]], truncation=True, max_length=512)

    return ds.map(f, batched=True, remove_columns=ds.column_names)


def train(tok):
    model = AutoModelForCausalLM.from_pretrained(BASE)
    model = get_peft_model(model, AdaLoraConfig(
        task_type="CAUSAL_LM", init_r=12, target_r=6, lora_alpha=24, fan_in_fan_out=True,
        target_modules=["c_attn"], tinit=300, tfinal=900, deltaT=10, total_step=STEPS))
    Trainer(
        model=model,
        args=TrainingArguments("runs/dialog", max_steps=STEPS, per_device_train_batch_size=8,
                               learning_rate=6e-4, logging_steps=50, save_strategy="no"),
        train_dataset=data(tok),
        data_collator=DataCollatorForLanguageModeling(tok, mlm=False),
        callbacks=[AdaLoraHook()],
    ).train()
    return model


def export(model, tok):
    """Serving has no peft installed, so write one plain model with the tuning baked in."""
    standalone = model.unload()
    standalone.save_pretrained(EXPORT, safe_serialization=True)
    tok.save_pretrained(EXPORT)


def smoke_test():
    tok = AutoTokenizer.from_pretrained(EXPORT)
    m = AutoModelForCausalLM.from_pretrained(EXPORT).eval()
    with torch.no_grad():
        out = m.generate(**tok("Hi, how are you?\n", return_tensors="pt"), max_new_tokens=30)
    print(tok.decode(out[0]))


if __name__ == "__main__":
    tokenizer = AutoTokenizer.from_pretrained(BASE)
    tokenizer.pad_token = tokenizer.eos_token
    export(train(tokenizer), tokenizer)
    smoke_test()
