import argparse

import evaluate
import torch
from accelerate import Accelerator
from datasets import load_dataset
from peft import LoraConfig, TaskType, get_peft_model
from torch.optim import AdamW
from torch.utils.data import DataLoader
from transformers import AutoModelForSequenceClassification, AutoTokenizer, get_linear_schedule_with_warmup

parser = argparse.ArgumentParser()
parser.add_argument("--name", default="roberta-large")
parser.add_argument("--epochs", type=int, default=20)
parser.add_argument("--lr", type=float, default=3e-4)
args = parser.parse_args()

accelerator = Accelerator()
tokenizer = AutoTokenizer.from_pretrained(args.name)
rows = load_dataset("glue", "mrpc")
rows = rows.map(lambda r: tokenizer(r["sentence1"], r["sentence2"], truncation=True), batched=True)
train = DataLoader(rows["train"], shuffle=True, batch_size=32)

peft_config = LoraConfig(task_type=TaskType.SEQ_CLS, inference_mode=False, r=8, lora_alpha=16, lora_dropout=0.1)
model = AutoModelForSequenceClassification.from_pretrained(args.name, return_dict=True, num_labels=2)
model = get_peft_model(model, peft_config)
model.print_trainable_parameters()

optimizer = AdamW(params=model.parameters(), lr=args.lr)
schedule = get_linear_schedule_with_warmup(optimizer, 50, len(train) * args.epochs)
model, optimizer, train, schedule = accelerator.prepare(model, optimizer, train, schedule)
for epoch in range(args.epochs):
    model.train()
    for batch in train:
        loss = model(**batch).loss
        accelerator.backward(loss)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
accelerator.unwrap_model(model).save_pretrained("mrpc-lora")
