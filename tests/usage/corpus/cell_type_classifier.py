import math
import sys

import yaml
from transformers import BertForSequenceClassification, EarlyStoppingCallback, Trainer, TrainerCallback, TrainingArguments, set_seed

from cells.data import CellCollator, load_cells
from cells.peft_setup import wrap


class AdaLoraDriver(TrainerCallback):
    """Calls update_and_allocate while the gradients are still there.

    on_pre_optimizer_step came with transformers 4.42; with an older one it is
    never called, hence the check at the end.
    """

    def __init__(self, model):
        self.model = model
        self.calls = 0

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        self.calls += 1
        self.model.update_and_allocate(state.global_step)

    def on_train_end(self, args, state, control, **kwargs):
        assert self.calls, "the ranks were never reallocated: update transformers"


def main():
    with open(sys.argv[1]) as fh:
        conf = yaml.safe_load(fh)
    set_seed(conf.get("seed", 42))
    train_cells, val_cells, labels = load_cells(conf["data"])

    adaptive = conf["peft"]["method"] == "adalora"
    if adaptive:
        t = conf["training"]
        per_epoch = math.ceil(len(train_cells) / (t["batch_size"] * t["accumulation"]))
        conf["peft"]["adalora_total_step"] = per_epoch * t["epochs"]

    model = BertForSequenceClassification.from_pretrained(conf["model_name"], num_labels=len(labels))
    model = wrap(model, conf["peft"])
    model.print_trainable_parameters()

    callbacks = [EarlyStoppingCallback(early_stopping_patience=3)]
    if adaptive:
        callbacks.append(AdaLoraDriver(model))

    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=conf["output_dir"],
            num_train_epochs=conf["training"]["epochs"],
            per_device_train_batch_size=conf["training"]["batch_size"],
            gradient_accumulation_steps=conf["training"]["accumulation"],
            eval_strategy="epoch",
            save_strategy="epoch",
            load_best_model_at_end=True,
        ),
        train_dataset=train_cells,
        eval_dataset=val_cells,
        data_collator=CellCollator(),
        callbacks=callbacks,
    )
    trainer.train()


if __name__ == "__main__":
    main()
