import evaluate
import numpy as np
from datasets import load_dataset
from peft import AdaLoraConfig, TaskType, get_peft_model
from transformers import (AutoModelForSequenceClassification, AutoTokenizer,
                          DataCollatorWithPadding, Trainer, TrainerCallback, TrainingArguments)

MODEL = "microsoft/deberta-v3-base"
BS, EPOCHS = 32, 6


class RankSchedule(TrainerCallback):
    """Moves the AdaLoRA budget along with training."""

    def __init__(self, log_every=100):
        self.log_every = log_every

    def on_step_end(self, args, state, control, model=None, **kwargs):
        model.base_model.update_and_allocate(state.global_step)
        if state.global_step % self.log_every == 0:
            print("allocated at", state.global_step)
        return control


tokenizer = AutoTokenizer.from_pretrained(MODEL)
cola = load_dataset("glue", "cola")
cola = cola.map(lambda x: tokenizer(x["sentence"], truncation=True, max_length=64), batched=True)
metric = evaluate.load("glue", "cola")


def compute_metrics(p):
    return metric.compute(predictions=np.argmax(p.predictions, -1), references=p.label_ids)


n_steps = -(-len(cola["train"]) // BS) * EPOCHS
config = AdaLoraConfig(
    task_type=TaskType.SEQ_CLS,
    target_r=4,
    init_r=8,
    tinit=n_steps // 10,
    tfinal=n_steps // 4,
    deltaT=10,
    lora_alpha=16,
    total_step=n_steps,
    target_modules=["query_proj", "key_proj", "value_proj"],
)
model = get_peft_model(
    AutoModelForSequenceClassification.from_pretrained(MODEL, num_labels=2), config)

trainer = Trainer(
    model=model,
    args=TrainingArguments(
        output_dir="cola-adalora", per_device_train_batch_size=BS, per_device_eval_batch_size=64,
        num_train_epochs=EPOCHS, max_steps=n_steps, learning_rate=8e-4,
        eval_strategy="epoch", logging_steps=50, seed=7),
    train_dataset=cola["train"],
    eval_dataset=cola["validation"],
    data_collator=DataCollatorWithPadding(tokenizer),
    compute_metrics=compute_metrics,
    callbacks=[RankSchedule()],
)
trainer.train()
print(trainer.evaluate())
model.save_pretrained("cola-adalora/adapter")
