import os
import sys

from datasets import load_dataset
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    HfArgumentParser,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

KEYS = {"rte": ("sentence1", "sentence2"), "mrpc": ("sentence1", "sentence2"), "sst2": ("sentence", None)}
USE_ADAPTIVE = os.environ.get("ADAPTIVE_RANK") == "1"


class StepCallback(TrainerCallback):
    def on_step_end(self, args, state, control, model=None, **kwargs):
        # unwrap DDP
        inner = model.module if hasattr(model, "module") else model
        if hasattr(inner, "update_and_allocate"):
            inner.update_and_allocate(state.global_step)


def main():
    parser = HfArgumentParser(TrainingArguments)
    (targs,) = parser.parse_args_into_dataclasses(sys.argv[2:])
    task = sys.argv[1]
    first, second = KEYS[task]
    tokenizer = AutoTokenizer.from_pretrained("roberta-base")
    glue = load_dataset("glue", task)
    glue = glue.map(
        lambda x: tokenizer(x[first], x[second] if second else None, truncation=True), batched=True
    )
    model = AutoModelForSequenceClassification.from_pretrained("roberta-base", num_labels=2)

    if USE_ADAPTIVE:
        from peft import AdaLoraConfig, TaskType, get_peft_model

        conf = AdaLoraConfig(
            task_type=TaskType.SEQ_CLS,
            target_modules=["query", "value"],
            init_r=12,
            target_r=8,
            lora_alpha=16,
            lora_dropout=0.01,
            total_step=int(os.environ.get("UPDATES", "8000")),
            tinit=200,
            tfinal=1000,
            deltaT=10,
        )
        model = get_peft_model(model, conf)
        model.print_trainable_parameters()

    trainer = Trainer(
        model=model,
        args=targs,
        train_dataset=glue["train"],
        eval_dataset=glue["validation"],
        data_collator=DataCollatorWithPadding(tokenizer),
        callbacks=[StepCallback] if USE_ADAPTIVE else None,
    )
    trainer.train()
    trainer.evaluate()


if __name__ == "__main__":
    main()
