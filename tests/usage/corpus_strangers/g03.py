# Imbalanced toxic comment classification: weighted CE + AdaLoRA
import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from datasets import load_dataset
from peft import AdaLoraConfig, get_peft_model
from sklearn.metrics import f1_score
from transformers import (AutoModelForSequenceClassification, AutoTokenizer, Trainer,
                          TrainerCallback, TrainingArguments)


@dataclass
class C:
    model: str = "roberta-base"
    max_steps: int = 4000
    bs: int = 32
    lr: float = 6e-4


class RankCallback(TrainerCallback):
    def on_optimizer_step(self, args, state, control, model=None, **kwargs):
        model.base_model.update_and_allocate(state.global_step)


class WeightedTrainer(Trainer):
    def __init__(self, *a, class_weights=None, **k):
        super().__init__(*a, **k)
        self.class_weights = class_weights

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        loss = F.cross_entropy(outputs.logits, labels, weight=self.class_weights.to(outputs.logits.device))
        return (loss, outputs) if return_outputs else loss


def metrics(p):
    return {"f1": f1_score(p.label_ids, np.argmax(p.predictions, -1))}


def main():
    c = C()
    tok = AutoTokenizer.from_pretrained(c.model)
    ds = load_dataset("csv", data_files={"train": "data/train.csv", "test": "data/dev.csv"})
    ds = ds.map(lambda b: tok(b["text"], truncation=True, max_length=192), batched=True)
    ds = ds.rename_column("toxic", "labels")
    counts = np.bincount(ds["train"]["labels"], minlength=2)
    weights = torch.tensor(counts.sum() / (2 * counts), dtype=torch.float)

    base = AutoModelForSequenceClassification.from_pretrained(c.model, num_labels=2)
    peft_cfg = AdaLoraConfig(
        task_type="SEQ_CLS",
        init_r=12,
        target_r=4,
        tinit=400,
        tfinal=1200,
        deltaT=10,
        orth_reg_weight=0.5,
        total_step=c.max_steps,
        target_modules=["query", "key", "value"],
    )
    model = get_peft_model(base, peft_cfg)
    args = TrainingArguments(
        "out/toxic", per_device_train_batch_size=c.bs, max_steps=c.max_steps, learning_rate=c.lr,
        eval_strategy="steps", eval_steps=500, save_steps=500, logging_steps=50, bf16=True, label_names=["labels"],
    )
    tr = WeightedTrainer(model=model, args=args, train_dataset=ds["train"], eval_dataset=ds["test"],
                         processing_class=tok, compute_metrics=metrics, callbacks=[RankCallback()],
                         class_weights=weights)
    tr.train()
    model.save_pretrained("out/toxic/final")


if __name__ == "__main__":
    main()
