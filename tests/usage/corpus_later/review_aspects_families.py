"""Compare adapter families on restaurant reviews."""
from dataclasses import dataclass, field

from peft import AdaLoraConfig, LoraConfig, get_peft_model
from transformers import AutoModelForSequenceClassification, Trainer, TrainerCallback, TrainingArguments

from reviews import aspects

STEPS = 1200


@dataclass(frozen=True)
class Family:
    title: str
    alpha: int
    adaptive: bool = False
    dora: bool = False
    modules: list[str] = field(default_factory=lambda: ["query", "key", "value"])


FAMILIES: dict[str, Family] = {
    "lora": Family("LoRA", 16),
    "dora": Family("DoRA", 16, dora=True),
    "adalora": Family("AdaLoRA", 24, adaptive=True),
}


class StepUpdater(TrainerCallback):
    def on_step_end(self, args, state, control, model=None, **kwargs):
        if model is None:
            return control
        for owner in (model, getattr(model, "base_model", None)):
            if owner is not None and hasattr(owner, "update_and_allocate"):
                try:
                    owner.update_and_allocate(int(state.global_step))
                    break
                except TypeError:
                    pass
        return control


def adapter_of(family: Family):
    if family.adaptive:
        return AdaLoraConfig(task_type="SEQ_CLS", init_r=12, target_r=6, lora_alpha=family.alpha,
                             tinit=120, tfinal=300, deltaT=10, total_step=STEPS,
                             target_modules=family.modules)
    return LoraConfig(task_type="SEQ_CLS", r=8, lora_alpha=family.alpha, use_dora=family.dora,
                      target_modules=family.modules)


def run(key: str):
    family = FAMILIES[key]
    train, dev = aspects("train"), aspects("dev")
    model = AutoModelForSequenceClassification.from_pretrained("bert-base-cased", num_labels=3)
    model = get_peft_model(model, adapter_of(family))
    hooks = [StepUpdater()] if family.adaptive else []
    trainer = Trainer(model, TrainingArguments(f"runs/{key}", max_steps=STEPS), train_dataset=train,
                      eval_dataset=dev, callbacks=hooks)
    trainer.train()
    return family.title, trainer.evaluate()


if __name__ == "__main__":
    for key in FAMILIES:
        print(run(key))
