import numpy as np
import torch
import torch.nn.functional as F
from peft import AdaLoraConfig, get_peft_model
from sklearn.utils.class_weight import compute_class_weight
from transformers import AutoModelForSequenceClassification, Trainer, TrainerCallback, TrainingArguments

from clinic import get_splits, macro_f1

N_STEPS = 2400


class WeightedTrainer(Trainer):
    def __init__(self, *args, class_weights=None, **kwargs):
        super().__init__(*args, **kwargs)
        self.class_weights = class_weights

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        weights = self.class_weights.to(outputs.logits.device)
        loss = F.cross_entropy(outputs.logits, labels, weight=weights)
        return (loss, outputs) if return_outputs else loss


class Allocate(TrainerCallback):
    def on_optimizer_step(self, args, state, control, model=None, **kwargs):
        model.base_model.update_and_allocate(state.global_step)


def main():
    train, val = get_splits("icd_rare")
    y = np.array(train["labels"])
    weights = compute_class_weight("balanced", classes=np.unique(y), y=y)

    model = AutoModelForSequenceClassification.from_pretrained("emilyalsentzer/Bio_ClinicalBERT", num_labels=len(weights))
    model = get_peft_model(
        model,
        AdaLoraConfig(
            task_type="SEQ_CLS",
            init_r=12,
            target_r=6,
            tinit=240,
            tfinal=480,
            deltaT=12,
            total_step=N_STEPS,
            lora_alpha=24,
            target_modules=["query", "value"],
            orth_reg_weight=0.5,
        ),
    )
    trainer = WeightedTrainer(
        model=model,
        args=TrainingArguments("out/rare", max_steps=N_STEPS, per_device_train_batch_size=16, eval_strategy="steps"),
        train_dataset=train,
        eval_dataset=val,
        compute_metrics=macro_f1,
        callbacks=[Allocate()],
        class_weights=torch.tensor(weights, dtype=torch.float),
    )
    trainer.train()


if __name__ == "__main__":
    main()
