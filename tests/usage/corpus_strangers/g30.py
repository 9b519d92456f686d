"""Focal loss: labels are not given to the model, so its loss (and penalty) is absent and both are made here."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from datasets import load_dataset
from peft import AdaLoraConfig, get_peft_model
from torch.utils.data import DataLoader
from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding

NAME = "bert-base-uncased"
EPOCHS, BS, ORTH = 4, 32, 0.3


class FocalLoss(nn.Module):
    def __init__(self, gamma=2.0):
        super().__init__()
        self.gamma = gamma

    def forward(self, logits, y):
        ce = F.cross_entropy(logits, y, reduction="none")
        return ((1 - torch.exp(-ce)) ** self.gamma * ce).mean()


def orth_penalty(model):
    terms = []
    for n, p in model.named_parameters():
        if "lora_A" in n:
            gram = p @ p.T
        elif "lora_B" in n:
            gram = p.T @ p
        else:
            continue
        eye = torch.eye(gram.shape[0], device=gram.device, dtype=gram.dtype)
        terms.append(torch.linalg.matrix_norm(gram - eye))
    return torch.stack(terms).mean()


def main():
    tok = AutoTokenizer.from_pretrained(NAME)
    ds = load_dataset("tweet_eval", "hate").map(lambda b: tok(b["text"], truncation=True, max_length=96), batched=True)
    ds = ds.rename_column("label", "labels").remove_columns(["text"])
    coll = DataCollatorWithPadding(tok)
    train = DataLoader(ds["train"], BS, shuffle=True, collate_fn=coll)
    val = DataLoader(ds["validation"], 128, collate_fn=coll)
    total = EPOCHS * len(train)

    model = AutoModelForSequenceClassification.from_pretrained(NAME, num_labels=2)
    model = get_peft_model(model, AdaLoraConfig(
        task_type="SEQ_CLS", init_r=12, target_r=8, orth_reg_weight=ORTH, tinit=100, tfinal=400, deltaT=5,
        total_step=total, target_modules=["query", "key", "value"])).cuda()
    opt = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=8e-4)
    focal = FocalLoss()

    step = 0
    for epoch in range(EPOCHS):
        model.train()
        for batch in train:
            batch = batch.to("cuda")
            y = batch.pop("labels")
            logits = model(**batch).logits
            loss = focal(logits, y) + ORTH * orth_penalty(model)
            loss.backward()
            opt.step()
            model.base_model.update_and_allocate(step)
            step += 1
            opt.zero_grad()
        model.eval()
        tp = fp = fn = 0
        with torch.no_grad():
            for batch in val:
                batch = batch.to("cuda")
                y = batch.pop("labels")
                p = model(**batch).logits.argmax(-1)
                tp += ((p == 1) & (y == 1)).sum().item()
                fp += ((p == 1) & (y == 0)).sum().item()
                fn += ((p == 0) & (y == 1)).sum().item()
        print(f"epoch {epoch} f1 {2 * tp / max(1, 2 * tp + fp + fn):.4f}")
    model.save_pretrained("hate-adalora")


if __name__ == "__main__":
    main()
