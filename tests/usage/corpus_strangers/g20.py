#!/usr/bin/env python
# torchrun --nproc_per_node 8 g20.py --epochs 3
import argparse
import os
import torch
import torch.distributed as dist
from datasets import load_dataset
from peft import AdaLoraConfig, get_peft_model
from torch.nn.parallel import DistributedDataParallel as DDP
from torch.utils.data import DataLoader, DistributedSampler
from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding

parser = argparse.ArgumentParser()
parser.add_argument("--model", default="microsoft/deberta-v3-base")
parser.add_argument("--epochs", type=int, default=3)
parser.add_argument("--per_gpu_batch", type=int, default=16)
parser.add_argument("--lr", type=float, default=5e-4)
parser.add_argument("--out", default="mnli_adalora")
args = parser.parse_args()

dist.init_process_group("nccl")
local_rank = int(os.environ["LOCAL_RANK"])
world = dist.get_world_size()
torch.cuda.set_device(local_rank)

tok = AutoTokenizer.from_pretrained(args.model)
mnli = load_dataset("glue", "mnli")
mnli = mnli.map(lambda b: tok(b["premise"], b["hypothesis"], truncation=True, max_length=128), batched=True,
                remove_columns=["premise", "hypothesis", "idx"]).rename_column("label", "labels")
train_set = mnli["train"]
sampler = DistributedSampler(train_set, num_replicas=world, rank=dist.get_rank(), shuffle=True)
train_loader = DataLoader(train_set, batch_size=args.per_gpu_batch, sampler=sampler, collate_fn=DataCollatorWithPadding(tok))

steps_per_epoch = len(train_set) // args.per_gpu_batch
total_steps = steps_per_epoch * args.epochs

model = AutoModelForSequenceClassification.from_pretrained(args.model, num_labels=3)
peft_config = AdaLoraConfig(
    task_type="SEQ_CLS",
    init_r=12,
    target_r=8,
    tinit=2000,
    tfinal=20000,
    deltaT=100,
    total_step=total_steps,
    target_modules=["query_proj", "key_proj", "value_proj"],
)
model = get_peft_model(model, peft_config).cuda()
model = DDP(model, device_ids=[local_rank])
optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=args.lr)

global_step = 0
for epoch in range(args.epochs):
    sampler.set_epoch(epoch)
    model.train()
    for batch in train_loader:
        batch = {k: v.cuda(non_blocking=True) for k, v in batch.items()}
        loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        global_step += 1
        model.module.base_model.update_and_allocate(global_step)
        optimizer.zero_grad(set_to_none=True)
        if dist.get_rank() == 0 and global_step % 100 == 0:
            print(f"[{epoch}] {global_step} loss={loss.item():.4f}", flush=True)

if dist.get_rank() == 0:
    model.module.save_pretrained(args.out)
dist.destroy_process_group()
