import argparse
import numpy as np
from datasets import load_dataset
from peft import AdaLoraConfig, TaskType, get_peft_model
from transformers import (AutoModelForTokenClassification, AutoTokenizer,
                          DataCollatorForTokenClassification, Trainer, TrainerCallback,
                          TrainingArguments)

ap = argparse.ArgumentParser()
ap.add_argument("--model", default="bert-base-cased")
ap.add_argument("--batch", type=int, default=8)
ap.add_argument("--accum", type=int, default=8)
ap.add_argument("--epochs", type=int, default=5)
args = ap.parse_args()

tok = AutoTokenizer.from_pretrained(args.model)
wnut = load_dataset("wnut_17")
names = wnut["train"].features["ner_tags"].feature.names


def align(ex):
    enc = tok(ex["tokens"], is_split_into_words=True, truncation=True, max_length=128)
    labels = []
    for i, tags in enumerate(ex["ner_tags"]):
        prev, row = None, []
        for w in enc.word_ids(i):
            row.append(-100 if w is None or w == prev else tags[w])
            prev = w
        labels.append(row)
    enc["labels"] = labels
    return enc


data = wnut.map(align, batched=True, remove_columns=wnut["train"].column_names)
batches = (len(data["train"]) + args.batch - 1) // args.batch
total_steps = batches * args.epochs


class Cb(TrainerCallback):
    def on_optimizer_step(self, targs, state, control, model=None, **kw):
        model.base_model.update_and_allocate(state.global_step)


cfg = AdaLoraConfig(task_type=TaskType.TOKEN_CLS, init_r=12, target_r=6, tinit=50,
                    tfinal=200, deltaT=5, total_step=total_steps,
                    target_modules=["query", "key", "value"])
model = get_peft_model(
    AutoModelForTokenClassification.from_pretrained(args.model, num_labels=len(names)), cfg)

trainer = Trainer(
    model=model,
    args=TrainingArguments("ner", per_device_train_batch_size=args.batch,
                           gradient_accumulation_steps=args.accum,
                           num_train_epochs=args.epochs, learning_rate=1e-3, logging_steps=10),
    train_dataset=data["train"],
    data_collator=DataCollatorForTokenClassification(tok),
    callbacks=[Cb()],
)
trainer.train()
pred = trainer.predict(data["validation"])
p, l = pred.predictions.argmax(-1), pred.label_ids
print("token acc", (p == l)[l != -100].mean(), np.unique(p))
model.save_pretrained("ner/adapter")
