# torchrun --nproc_per_node=4 h40.py --epochs 3
import argparse
import math
import os

import torch
import torch.distributed as dist
from datasets import load_dataset
from peft import AdaLoraConfig, TaskType, get_peft_model
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler
from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--epochs", type=int, default=3)
    ap.add_argument("--batch", type=int, default=32, help="per GPU")
    ap.add_argument("--lr", type=float, default=5e-4)
    a = ap.parse_args()

    dist.init_process_group("nccl")
    rank, local = dist.get_rank(), int(os.environ["LOCAL_RANK"])
    torch.cuda.set_device(local)

    tok = AutoTokenizer.from_pretrained("roberta-base")
    ds = load_dataset("glue", "mnli", split="train")
    ds = ds.map(lambda b: tok(b["premise"], b["hypothesis"], truncation=True, max_length=128), batched=True)
    ds = ds.remove_columns(["premise", "hypothesis", "idx"]).rename_column("label", "labels")

    total_step = math.ceil(len(ds) / a.batch) * a.epochs
    model = AutoModelForSequenceClassification.from_pretrained("roberta-base", num_labels=3)
    model = get_peft_model(model, AdaLoraConfig(
        task_type=TaskType.SEQ_CLS, init_r=12, target_r=6, lora_alpha=24,
        target_modules=["query", "key", "value"],
        tinit=int(0.1 * total_step), tfinal=int(0.3 * total_step), deltaT=20,
        total_step=total_step)).to(local)
    model = DistributedDataParallel(model, device_ids=[local])

    sampler = DistributedSampler(ds, shuffle=True)
    loader = DataLoader(ds, a.batch, sampler=sampler, collate_fn=DataCollatorWithPadding(tok), num_workers=4)
    opt = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=a.lr)

    step = 0
    for ep in range(a.epochs):
        sampler.set_epoch(ep)
        model.train()
        for batch in loader:
            loss = model(**batch.to(local)).loss
            loss.backward()
            opt.step()
            model.module.base_model.update_and_allocate(step)
            opt.zero_grad()
            step += 1
            if rank == 0 and step % 100 == 0:
                print(ep, step, loss.item(), flush=True)
    if rank == 0:
        model.module.save_pretrained("mnli-adalora")
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
