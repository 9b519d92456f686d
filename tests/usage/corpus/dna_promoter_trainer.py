from dataclasses import dataclass, field
from typing import Optional

import transformers
from peft import AdaLoraConfig, LoraConfig, get_peft_model
from transformers import Trainer

from promoters import PromoterDataset, collate, metrics


@dataclass
class ModelArguments:
    model_name_or_path: Optional[str] = field(default="zhihan1996/DNABERT-2-117M")
    peft_method: str = field(default="adalora", metadata={"help": "none, lora or adalora"})
    init_r: int = field(default=12)
    target_r: int = field(default=6)
    total_step: int = field(default=3000)
    tinit: int = field(default=300)
    tfinal: int = field(default=900)
    deltaT: int = field(default=20)


class RankTrainer(Trainer):
    def training_step(self, model, inputs, num_items_in_batch=None):
        loss = super().training_step(model, inputs, num_items_in_batch=num_items_in_batch)
        tuner = getattr(model, "module", model)
        tuner = getattr(tuner, "base_model", tuner)
        if not hasattr(tuner, "update_and_allocate"):
            return loss
        if any(p.grad is not None for p in tuner.parameters() if p.requires_grad):
            tuner.update_and_allocate(self.state.global_step)
        return loss


def train():
    parser = transformers.HfArgumentParser((ModelArguments, transformers.TrainingArguments))
    margs, targs = parser.parse_args_into_dataclasses()
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        margs.model_name_or_path, num_labels=2, trust_remote_code=True
    )
    if margs.peft_method == "adalora":
        config = AdaLoraConfig(
            task_type="SEQ_CLS",
            init_r=margs.init_r,
            target_r=margs.target_r,
            total_step=margs.total_step,
            tinit=margs.tinit,
            tfinal=margs.tfinal,
            deltaT=margs.deltaT,
            lora_alpha=16,
            lora_dropout=0.05,
            target_modules=["Wqkv"],
        )
        model = get_peft_model(model, config)
    elif margs.peft_method == "lora":
        model = get_peft_model(model, LoraConfig(r=8, lora_alpha=16, target_modules=["Wqkv"], task_type="SEQ_CLS"))
    trainer = RankTrainer(
        model=model,
        args=targs,
        train_dataset=PromoterDataset("train.csv"),
        eval_dataset=PromoterDataset("dev.csv"),
        data_collator=collate,
        compute_metrics=metrics,
    )
    trainer.train()


if __name__ == "__main__":
    train()
