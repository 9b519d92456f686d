"""Spam filter, AdaLoRA on ALBERT's cousin BERT-small."""
import torch
from datasets import load_dataset
from peft import AdaLoraConfig, get_peft_model
from torch.utils.data import DataLoader
from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding

NAME = "prajjwal1/bert-small"
EPOCHS = 6


def build(total):
    net = AutoModelForSequenceClassification.from_pretrained(NAME, num_labels=2)
    cfg = AdaLoraConfig(task_type="SEQ_CLS", init_r=8, target_r=3, lora_alpha=16,
                        target_modules=["query", "key", "value"],
                        tinit=total // 8, tfinal=total // 4, deltaT=2, total_step=total)
    return get_peft_model(net, cfg)


def train_step(model, batch, opt, global_step):
    loss = model(**batch).loss
    loss.backward()
    opt.step()
    model.base_model.update_and_allocate(global_step)
    opt.zero_grad()
    global_step += 1
    return loss.item()


@torch.no_grad()
def evaluate(model, dl):
    model.eval()
    ok = n = 0
    for b in dl:
        b = b.to("cuda")
        ok += (model(**b).logits.argmax(-1) == b["labels"]).sum().item()
        n += len(b["labels"])
    return ok / n


def main():
    tok = AutoTokenizer.from_pretrained(NAME)
    ds = load_dataset("ucirvine/sms_spam", split="train").train_test_split(0.1, seed=3)
    ds = ds.map(lambda b: tok(b["sms"], truncation=True, max_length=128), batched=True, remove_columns=["sms"])
    ds = ds.rename_column("label", "labels")
    coll = DataCollatorWithPadding(tok)
    tr = DataLoader(ds["train"], 32, shuffle=True, collate_fn=coll)
    te = DataLoader(ds["test"], 64, collate_fn=coll)

    model = build(EPOCHS * len(tr)).cuda()
    opt = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-3)
    global_step = 0
    for ep in range(EPOCHS):
        model.train()
        losses = [train_step(model, b.to("cuda"), opt, global_step) for b in tr]
        print(ep, sum(losses) / len(losses), evaluate(model, te))
    model.save_pretrained("spam-adalora")


if __name__ == "__main__":
    main()
