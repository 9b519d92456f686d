"""CoLA with accelerate; hyperparameters come from the YAML block."""
import torch
import yaml
from accelerate import Accelerator
from datasets import load_dataset
from peft import AdaLoraConfig, get_peft_model
from sklearn.metrics import matthews_corrcoef
from torch.utils.data import DataLoader
from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding

CONFIG = """
model: albert/albert-base-v2
train:
  max_steps: 2000
  batch_size: 32
  lr: 1.0e-3
  eval_every: 250
adalora:
  init_r: 12
  target_r: 6
  beta1: 0.85
  beta2: 0.85
  tinit: 800
  tfinal: 1500
  deltaT: 10
  lora_alpha: 24
  target_modules: [query, key, value]
"""


def infinite(loader):
    while True:
        for b in loader:
            yield b


def evaluate(acc, model, loader):
    model.eval()
    preds, golds = [], []
    for b in loader:
        with torch.no_grad():
            p = model(**b).logits.argmax(-1)
        p, y = acc.gather_for_metrics((p, b["labels"]))
        preds += p.tolist()
        golds += y.tolist()
    model.train()
    return matthews_corrcoef(golds, preds)


def main():
    cfg = yaml.safe_load(CONFIG)
    t = cfg["train"]
    acc = Accelerator()
    tok = AutoTokenizer.from_pretrained(cfg["model"])
    ds = load_dataset("glue", "cola").map(lambda b: tok(b["sentence"], truncation=True), batched=True,
                                          remove_columns=["sentence", "idx"]).rename_column("label", "labels")
    coll = DataCollatorWithPadding(tok)
    train = DataLoader(ds["train"], t["batch_size"], shuffle=True, collate_fn=coll)
    val = DataLoader(ds["validation"], 128, collate_fn=coll)

    model = AutoModelForSequenceClassification.from_pretrained(cfg["model"], num_labels=2)
    model = get_peft_model(model, AdaLoraConfig(task_type="SEQ_CLS", total_step=t["max_steps"], **cfg["adalora"]))
    opt = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=t["lr"])
    model, opt, train, val = acc.prepare(model, opt, train, val)

    model.train()
    stream = infinite(train)
    for step in range(1, t["max_steps"] + 1):
        loss = model(**next(stream)).loss
        acc.backward(loss)
        opt.step()
        acc.unwrap_model(model).base_model.update_and_allocate(step)
        opt.zero_grad()
        if step % t["eval_every"] == 0:
            mcc = evaluate(acc, model, val)
            acc.print(f"step {step} loss {loss.item():.4f} mcc {mcc:.4f}")
    if acc.is_main_process:
        acc.unwrap_model(model).save_pretrained("cola-adalora")


if __name__ == "__main__":
    main()
