"""Choose a method of PEFT by its name, and train a classifier of reviews with it."""

from peft import IA3Config, LoraConfig, PrefixTuningConfig, TaskType, get_peft_model
from transformers import AutoModelForSequenceClassification, Trainer, TrainingArguments


def config_for(method: str, **given):
    kinds = {"lora": LoraConfig, "ia3": IA3Config, "prefix": PrefixTuningConfig}
    defaults = {
        "lora": {"r": 8, "lora_alpha": 16, "lora_dropout": 0.1},
        "ia3": {},
        "prefix": {"num_virtual_tokens": 20},
    }[method]
    return kinds[method](task_type=TaskType.SEQ_CLS, **{**defaults, **given})


def build(name, labels, method="lora", **given):
    base = AutoModelForSequenceClassification.from_pretrained(name, num_labels=labels)
    if method == "full":
        return base
    if method == "lora_wide":
        return get_peft_model(base, LoraConfig(task_type=TaskType.SEQ_CLS, r=128, lora_alpha=128, **given))
    return get_peft_model(base, config_for(method, **given))


def run(method, rows):
    model = build("roberta-base", 5, method)
    Trainer(model=model, args=TrainingArguments(f"reviews-{method}"), train_dataset=rows).train()
