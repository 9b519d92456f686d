import argparse

import torch
from peft import AdaLoraConfig, LoraConfig, get_peft_model
from torch.utils.data import DataLoader
from transformers import AutoModelForTokenClassification, AutoTokenizer, DataCollatorForTokenClassification

from contracts import ClauseDataset, LABELS

parser = argparse.ArgumentParser(description="Tag the clauses of contracts")
parser.add_argument("--base_model", default="nlpaueb/legal-bert-base-uncased")
parser.add_argument("--use_adalora", action="store_true")
parser.add_argument("--epochs", type=int, default=4)
parser.add_argument("--batch_size", type=int, default=16)
args = parser.parse_args()

tokenizer = AutoTokenizer.from_pretrained(args.base_model)
train_dataset = ClauseDataset("train.conll", tokenizer)
model = AutoModelForTokenClassification.from_pretrained(args.base_model, num_labels=len(LABELS))

target_modules = ["query", "key", "value", "dense"]
if args.use_adalora:
    total_step = args.epochs * len(train_dataset)
    config = AdaLoraConfig(task_type="TOKEN_CLS", target_modules=target_modules, init_r=12, target_r=4,
                           lora_alpha=24, lora_dropout=0.1, tinit=150, tfinal=900, deltaT=10,
                           total_step=total_step)
else:
    config = LoraConfig(r=32, lora_alpha=64, target_modules=target_modules, task_type="TOKEN_CLS")
model = get_peft_model(model, config).cuda()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
loader = DataLoader(train_dataset, batch_size=args.batch_size, shuffle=True,
                    collate_fn=DataCollatorForTokenClassification(tokenizer))

step = 0
for _ in range(args.epochs):
    for batch in loader:
        loss = model(**batch.to("cuda")).loss
        loss.backward()
        optimizer.step()
        if args.use_adalora:
            model.base_model.update_and_allocate(step)
        optimizer.zero_grad()
        step += 1
model.save_pretrained("clauses")
