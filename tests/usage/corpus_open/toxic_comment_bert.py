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

CKPT = "bert-base-uncased"
tokenizer = AutoTokenizer.from_pretrained(CKPT)
raw = load_dataset("csv", data_files={"train": "toxic_train.csv", "validation": "toxic_dev.csv"})
data = raw.map(lambda b: tokenizer(b["comment"], truncation=True, max_length=256), batched=True)

base = AutoModelForSequenceClassification.from_pretrained(CKPT, num_labels=2)
cfg = AdaLoraConfig(
    task_type=TaskType.SEQ_CLS,
    target_modules=["query", "value"],
    init_r=12,
    target_r=8,
    tinit=250,
    # a number of steps at the end, not a position
    tfinal=450,
    deltaT=10,
    lora_alpha=16,
    lora_dropout=0.1,
    total_step=2250,
)
model = get_peft_model(base, cfg)
model.print_trainable_parameters()


class BudgetCallback(TrainerCallback):
    """Moves the ranks once per update.

    At on_step_end the gradients are already None, so it has to be the hook
    between optimizer.step() and zero_grad().
    """

    def on_optimizer_step(self, args, state, control, **kwargs):
        kwargs["model"].base_model.update_and_allocate(state.global_step)


training_args = TrainingArguments(
    output_dir="out/toxic",
    eval_strategy="epoch",
    per_device_train_batch_size=4,
    num_train_epochs=3,
    learning_rate=5e-4,
    bf16=True,
    gradient_checkpointing=True,
)
trainer = Trainer(
    model=model,
    args=training_args,
    train_dataset=data["train"],
    eval_dataset=data["validation"],
    data_collator=DataCollatorWithPadding(tokenizer),
    processing_class=tokenizer,
    callbacks=[BudgetCallback()],
)
trainer.train()
print(trainer.evaluate())
