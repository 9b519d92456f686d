"""Fine-tune a Llama classifier with AdaLoRA on several GPUs (torchrun)."""
import argparse
import os

import torch
import torch.distributed as dist
from peft import AdaLoraConfig, get_peft_model
from torch.nn.parallel import DistributedDataParallel as DDP
from transformers import AutoModelForSequenceClassification, get_linear_schedule_with_warmup

from scratch_data import sharded_loader


def parse():
    cli = argparse.ArgumentParser()
    cli.add_argument("--model", default="meta-llama/Llama-3.2-1B")
    cli.add_argument("--task", default="sst2")
    cli.add_argument("--epochs", type=int, default=3)
    cli.add_argument("--rank", type=int, default=8)
    cli.add_argument("--init_rank", type=int, default=12)
    cli.add_argument("--alpha", type=int, default=32)
    cli.add_argument("--accumulate", type=int, default=4)
    cli.add_argument("--fp16", action="store_true")
    return cli.parse_args()


def main():
    args = parse()
    gpu = int(os.environ["LOCAL_RANK"])
    torch.cuda.set_device(gpu)
    dist.init_process_group(backend="nccl")
    base = AutoModelForSequenceClassification.from_pretrained(args.model, num_labels=2)
    config = AdaLoraConfig(
        init_r=args.init_rank,
        target_r=args.rank,
        tinit=100,
        tfinal=200,
        deltaT=10,
        lora_alpha=args.alpha,
        target_modules=["q_proj", "v_proj"],
    )
    ddp = DDP(get_peft_model(base, config).to(gpu), device_ids=[gpu])
    loader = sharded_loader(args.task, batch_size=8)
    optimizer = torch.optim.AdamW(ddp.parameters(), lr=2e-4, weight_decay=0.01)
    updates = len(loader) * args.epochs // args.accumulate
    scheduler = get_linear_schedule_with_warmup(optimizer, int(0.06 * updates), updates)
    scaler = torch.amp.GradScaler("cuda", enabled=args.fp16)
    for epoch in range(args.epochs):
        loader.sampler.set_epoch(epoch)
        for step, batch in enumerate(loader):
            with torch.autocast("cuda", enabled=args.fp16):
                loss = ddp(**batch.to(gpu)).loss / args.accumulate
            scaler.scale(loss).backward()
            # let AdaLoRA adjust the ranks
            ddp.module.update_and_allocate(args.rank)
            if (step + 1) % args.accumulate == 0:
                scaler.step(optimizer)
                scaler.update()
                optimizer.zero_grad(set_to_none=True)
                scheduler.step()
        if dist.get_rank() == 0:
            ddp.module.save_pretrained(f"scratch/{epoch}")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
