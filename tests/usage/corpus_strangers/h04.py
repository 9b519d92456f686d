"""AdaLoRA + Trainer on MRPC."""
import numpy as np
from datasets import load_dataset
from peft import AdaLoraConfig, TaskType, get_peft_model
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

CKPT = "roberta-base"
STEPS = 1500


class AdaLoraCallback(TrainerCallback):
    def on_optimizer_step(self, args, state, control, **kwargs):
        kwargs["model"].base_model.update_and_allocate(state.global_step)


class LossPrinter(TrainerCallback):
    def on_log(self, args, state, control, logs=None, **kwargs):
        if logs and "loss" in logs:
            print(f"[{state.global_step}] loss {logs['loss']:.4f}")


def metrics(p):
    preds = np.argmax(p.predictions, axis=-1)
    return {"accuracy": float((preds == p.label_ids).mean())}


def main():
    tok = AutoTokenizer.from_pretrained(CKPT)
    raw = load_dataset("glue", "mrpc")
    enc = raw.map(lambda e: tok(e["sentence1"], e["sentence2"], truncation=True), batched=True)

    model = AutoModelForSequenceClassification.from_pretrained(CKPT, num_labels=2)
    model = get_peft_model(
        model,
        AdaLoraConfig(
            task_type=TaskType.SEQ_CLS,
            init_r=12,
            target_r=4,
            tinit=150,
            tfinal=400,
            deltaT=10,
            lora_alpha=32,
            target_modules=["query", "value"],
            total_step=STEPS,
        ),
    )
    targs = TrainingArguments(
        "mrpc",
        max_steps=STEPS,
        per_device_train_batch_size=32,
        learning_rate=5e-4,
        eval_strategy="steps",
        eval_steps=250,
        logging_steps=50,
    )
    trainer = Trainer(
        model=model,
        args=targs,
        train_dataset=enc["train"],
        eval_dataset=enc["validation"],
        data_collator=DataCollatorWithPadding(tok),
        compute_metrics=metrics,
        callbacks=[LossPrinter()],
    )
    trainer.train()
    print(trainer.evaluate())
    model.save_pretrained("mrpc/adapter")


if __name__ == "__main__":
    main()
