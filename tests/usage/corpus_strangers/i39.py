"""Side by side: fixed-rank LoRA and AdaLoRA, each on its own copy of the backbone, same batches."""
import csv
import torch
from datasets import load_dataset
from peft import AdaLoraConfig, LoraConfig, get_peft_model
from torch.utils.data import DataLoader
from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding

NAME = "roberta-base"
EPOCHS = 5
TARGETS = ["query", "value"]


def backbone():
    return AutoModelForSequenceClassification.from_pretrained(NAME, num_labels=2)


def optimizer_for(m, lr):
    return torch.optim.AdamW([p for p in m.parameters() if p.requires_grad], lr=lr)


def main():
    torch.manual_seed(0)
    tok = AutoTokenizer.from_pretrained(NAME)
    ds = load_dataset("rotten_tomatoes", split="train")
    ds = ds.map(lambda b: tok(b["text"], truncation=True), batched=True, remove_columns=["text"])
    ds = ds.rename_column("label", "labels")
    dl = DataLoader(ds, 16, shuffle=True, collate_fn=DataCollatorWithPadding(tok))
    total = EPOCHS * len(dl)

    fixed = get_peft_model(backbone(), LoraConfig(task_type="SEQ_CLS", r=8, lora_alpha=16,
                                                  target_modules=TARGETS)).cuda()
    adaptive = get_peft_model(backbone(), AdaLoraConfig(
        task_type="SEQ_CLS", init_r=12, target_r=8, lora_alpha=16, tinit=200, tfinal=700,
        deltaT=10, total_step=total, target_modules=TARGETS)).cuda()
    o_fixed, o_ada = optimizer_for(fixed, 5e-4), optimizer_for(adaptive, 1e-3)

    step = 0
    rows = []
    fixed.train()
    adaptive.train()
    for epoch in range(EPOCHS):
        for batch in dl:
            batch = batch.to("cuda")
            l1 = fixed(**batch).loss
            l1.backward()
            o_fixed.step()
            o_fixed.zero_grad()

            l2 = adaptive(**batch).loss
            l2.backward()
            o_ada.step()
            adaptive.base_model.update_and_allocate(step)
            o_ada.zero_grad()

            rows.append((step, l1.item(), l2.item()))
            step += 1
        print(epoch, rows[-1])
    with open("compare.csv", "w", newline="") as f:
        csv.writer(f).writerows([("step", "lora", "adalora"), *rows])
    fixed.save_pretrained("compare/lora")
    adaptive.save_pretrained("compare/adalora")


if __name__ == "__main__":
    main()
