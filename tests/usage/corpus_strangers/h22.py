"""Imbalanced toxicity data: class-weighted loss with Trainer + AdaLoRA."""
import torch
from datasets import load_dataset
from peft import AdaLoraConfig, get_peft_model
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

BASE = "roberta-base"
STEPS = 4000


class WeightedTrainer(Trainer):
    def __init__(self, *args, class_weights, **kwargs):
        super().__init__(*args, **kwargs)
        self.class_weights = class_weights

    def compute_loss(self, model, inputs, return_outputs=False, **kwargs):
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        ce = torch.nn.CrossEntropyLoss(weight=self.class_weights.to(outputs.logits.device))
        loss = ce(outputs.logits.view(-1, 2), labels.view(-1))
        return (loss, outputs) if return_outputs else loss


class AdaLoraStep(TrainerCallback):
    def on_optimizer_step(self, args, state, control, model=None, **kwargs):
        model.base_model.update_and_allocate(state.global_step)


def main():
    tok = AutoTokenizer.from_pretrained(BASE)
    ds = load_dataset("OxAISH-AL-LLM/wiki_toxic")
    ds = ds.map(lambda b: tok(b["comment_text"], truncation=True, max_length=256), batched=True)
    counts = torch.bincount(torch.tensor(ds["train"]["label"]), minlength=2).float()
    weights = counts.sum() / (2 * counts)

    model = AutoModelForSequenceClassification.from_pretrained(BASE, num_labels=2)
    model = get_peft_model(
        model,
        AdaLoraConfig(
            task_type="SEQ_CLS",
            init_r=12,
            target_r=6,
            tinit=400,
            tfinal=1200,
            deltaT=20,
            lora_alpha=24,
            orth_reg_weight=0.3,  # keeps P and Q near orthogonal
            target_modules=["query", "key", "value"],
            total_step=STEPS,
        ),
    )
    trainer = WeightedTrainer(
        model=model,
        args=TrainingArguments("toxic", max_steps=STEPS, per_device_train_batch_size=32,
                               learning_rate=5e-4, logging_steps=100, label_names=["labels"]),
        train_dataset=ds["train"],
        eval_dataset=ds["balanced_train"],
        data_collator=DataCollatorWithPadding(tok),
        callbacks=[AdaLoraStep()],
        class_weights=weights,
    )
    trainer.train()
    model.save_pretrained("toxic/adapter")


if __name__ == "__main__":
    main()
