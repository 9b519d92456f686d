"""Phase A: linear probing of the head. Phase B: AdaLoRA on the attention, with a schedule of its own."""
import torch
from datasets import load_dataset
from peft import AdaLoraConfig, get_peft_model
from torch.utils.data import DataLoader
from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding

NAME = "bert-base-uncased"
PROBE_EPOCHS = 1
ADA_EPOCHS = 4


def get_data():
    tok = AutoTokenizer.from_pretrained(NAME)
    ds = load_dataset("SetFit/20_newsgroups", split="train")
    ds = ds.map(lambda b: tok(b["text"], truncation=True, max_length=256), batched=True)
    ds = ds.select_columns(["input_ids", "attention_mask", "label"]).rename_column("label", "labels")
    return DataLoader(ds, 16, shuffle=True, collate_fn=DataCollatorWithPadding(tok))


def probe(model, dl):
    model.requires_grad_(False)
    model.classifier.requires_grad_(True)
    opt = torch.optim.AdamW(model.classifier.parameters(), lr=1e-3)
    model.train()
    for _ in range(PROBE_EPOCHS):
        for b in dl:
            loss = model(**b.to("cuda")).loss
            loss.backward()
            opt.step()
            opt.zero_grad()
    print("probe loss", loss.item())


def adapt(model, dl):
    total = ADA_EPOCHS * len(dl)
    cfg = AdaLoraConfig(
        task_type="SEQ_CLS", init_r=12, target_r=6, lora_alpha=24,
        target_modules=["query", "key", "value"],
        tinit=total // 10, tfinal=total // 4, deltaT=5, total_step=total,
    )
    model = get_peft_model(model, cfg).cuda()  # copies the probed head into modules_to_save
    opt = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=6e-4)
    model.train()
    step = 0
    for ep in range(ADA_EPOCHS):
        for b in dl:
            loss = model(**b.to("cuda")).loss
            loss.backward()
            opt.step()
            model.base_model.update_and_allocate(step)
            opt.zero_grad()
            step += 1
        print("adalora epoch", ep, loss.item())
    return model


if __name__ == "__main__":
    loader = get_data()
    net = AutoModelForSequenceClassification.from_pretrained(NAME, num_labels=20).cuda()
    probe(net, loader)
    net = adapt(net, loader)
    net.save_pretrained("20ng-adalora")
