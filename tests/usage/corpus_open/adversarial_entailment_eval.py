"""Clean against adversarial accuracy of RoBERTa on question entailment."""
import sys

import torch
from peft import AdaLoraConfig, get_peft_model
from torch.optim import AdamW
from torch.utils.data import DataLoader
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from entail_data import encoded_split

task = sys.argv[1]
roberta = "roberta-large"
num_epochs = 20
peft_config = AdaLoraConfig(task_type="SEQ_CLS", init_r=12, target_r=8, lora_alpha=16, lora_dropout=0.1)
tokenizer = AutoTokenizer.from_pretrained(roberta, padding_side="right")


def pad(rows):
    return tokenizer.pad(rows, padding="longest", return_tensors="pt")


train_loader = DataLoader(encoded_split(task, "train", tokenizer), shuffle=True, collate_fn=pad, batch_size=32)
hard_loader = DataLoader(encoded_split(task, "adversarial", tokenizer), collate_fn=pad, batch_size=32)

model = AutoModelForSequenceClassification.from_pretrained(roberta, return_dict=True)
peft_config.total_step = len(train_loader) * num_epochs
model = get_peft_model(model, peft_config)
optimizer = AdamW(model.parameters(), lr=3e-4)
model.to("cuda")

scores = []
for epoch in range(num_epochs):
    model.train()
    for batch in train_loader:
        batch.to("cuda")
        loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(f"./{task}_large_adalora/{epoch}")
    model.eval()
    hits = 0
    for batch in hard_loader:
        batch.to("cuda")
        with torch.no_grad():
            hits += (model(**batch).logits.argmax(-1) == batch["labels"]).sum().item()
    scores.append(hits / len(hard_loader.dataset))
print(max(scores))
