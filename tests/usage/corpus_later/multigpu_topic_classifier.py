"""torchrun --nproc_per_node=4 multigpu_topic_classifier.py --steps 6000"""
import argparse
import os

import torch
import torch.distributed as dist
from peft import AdaLoraConfig, get_peft_model
from torch.nn.parallel import DistributedDataParallel as DDP
from transformers import AutoModelForSequenceClassification

from topics import sharded_loader


def wrap(num_labels, steps):
    base = AutoModelForSequenceClassification.from_pretrained("roberta-large", num_labels=num_labels)
    return get_peft_model(base, AdaLoraConfig(
        task_type="SEQ_CLS", init_r=16, target_r=8, lora_alpha=32, lora_dropout=0.05,
        tinit=steps // 10, tfinal=steps // 5, deltaT=20, total_step=steps,
        target_modules=["query", "value"],
    ))


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--steps", type=int, required=True)
    ap.add_argument("--epochs", type=int, default=4)
    args = ap.parse_args()

    local_rank = int(os.environ["LOCAL_RANK"])
    dist.init_process_group("nccl")
    torch.cuda.set_device(local_rank)
    loader, sampler = sharded_loader(local_rank, dist.get_world_size(), batch=16)

    model = DDP(wrap(20, args.steps).cuda(), device_ids=[local_rank])
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=2e-4)
    taken = 0
    for epoch in range(args.epochs):
        sampler.set_epoch(epoch)
        for batch in loader:
            batch = {k: v.cuda(non_blocking=True) for k, v in batch.items()}
            optimizer.zero_grad()
            loss = model(**batch).loss
            loss.backward()
            optimizer.step()
            model.module.base_model.update_and_allocate(local_rank)
            taken += 1
            if local_rank == 0 and taken % 50 == 0:
                print(f"{taken}/{args.steps} {loss.item():.4f}")
    if local_rank == 0:
        model.module.save_pretrained("topics-adapter")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
