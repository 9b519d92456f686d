import math
import torch
from accelerate import Accelerator
from datasets import load_dataset
from peft import AdaLoraConfig, get_peft_model
from torch.utils.data import DataLoader
from transformers import (AutoModelForSequenceClassification, AutoTokenizer,
                          DataCollatorWithPadding, get_scheduler)

# accelerate launch --num_processes 8 i18.py
EPOCHS = 4
BS = 16
NAME = "microsoft/deberta-v3-small"


def data():
    tok = AutoTokenizer.from_pretrained(NAME)
    ds = load_dataset("glue", "qnli")
    ds = ds.map(lambda b: tok(b["question"], b["sentence"], truncation=True, max_length=256),
                batched=True, remove_columns=["question", "sentence", "idx"])
    ds = ds.rename_column("label", "labels")
    c = DataCollatorWithPadding(tok)
    return DataLoader(ds["train"], BS, shuffle=True, collate_fn=c), DataLoader(ds["validation"], 64, collate_fn=c)


def main():
    acc = Accelerator(log_with=None)
    assert acc.num_processes == 8, "schedule of this run is for one 8-GPU node"
    train, val = data()
    total = len(train) * EPOCHS
    cfg = AdaLoraConfig(task_type="SEQ_CLS", init_r=8, target_r=2,
                        tinit=math.floor(0.1 * total), tfinal=math.floor(0.3 * total), deltaT=50,
                        total_step=total, target_modules=["query_proj", "value_proj"])
    model = get_peft_model(
        AutoModelForSequenceClassification.from_pretrained(NAME, num_labels=2), cfg)
    opt = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    sched = get_scheduler("constant", opt)
    model, opt, train, val, sched = acc.prepare(model, opt, train, val, sched)

    step = 0
    for epoch in range(EPOCHS):
        model.train()
        for batch in train:
            loss = model(**batch).loss
            acc.backward(loss)
            opt.step()
            sched.step()
            acc.unwrap_model(model).base_model.update_and_allocate(step)
            opt.zero_grad()
            step += 1
        model.eval()
        right = n = 0
        for batch in val:
            with torch.no_grad():
                pred = model(**batch).logits.argmax(-1)
            pred, ref = acc.gather_for_metrics((pred, batch["labels"]))
            right += (pred == ref).sum().item()
            n += len(ref)
        acc.print(epoch, step, right / n)
    if acc.is_main_process:
        acc.unwrap_model(model).save_pretrained("qnli")


main()
