import argparse
import os
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler
from datasets import load_dataset
from peft import AdaLoraConfig, get_peft_model
from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding


def get_args():
    p = argparse.ArgumentParser(description="torchrun --nproc_per_node=4 ...")
    p.add_argument("--name", default="bert-large-uncased")
    p.add_argument("--epochs", type=int, default=3)
    p.add_argument("--batch", type=int, default=16)
    p.add_argument("--lr", type=float, default=5e-4)
    return p.parse_args()


def main():
    args = get_args()
    dist.init_process_group("nccl")
    gpu = int(os.environ["LOCAL_RANK"])
    torch.cuda.set_device(gpu)
    tok = AutoTokenizer.from_pretrained(args.name)
    ds = load_dataset("glue", "mnli", split="train")
    ds = ds.map(lambda b: tok(b["premise"], b["hypothesis"], truncation=True, max_length=128),
                batched=True, remove_columns=["premise", "hypothesis", "idx"]).rename_column("label", "labels")
    sampler = DistributedSampler(ds)
    dl = DataLoader(ds, args.batch, sampler=sampler, collate_fn=DataCollatorWithPadding(tok))
    total = len(dl) * args.epochs

    net = AutoModelForSequenceClassification.from_pretrained(args.name, num_labels=3)
    net = get_peft_model(net, AdaLoraConfig(
        task_type="SEQ_CLS", init_r=12, target_r=8, tinit=1000, tfinal=3000, deltaT=50,
        total_step=total, target_modules=["query", "key", "value"]))
    net = DistributedDataParallel(net.to(gpu), device_ids=[gpu])
    optimizer = torch.optim.AdamW([p for p in net.parameters() if p.requires_grad], lr=args.lr)

    global_step = 0
    for epoch in range(args.epochs):
        sampler.set_epoch(epoch)
        net.train()
        for batch in dl:
            batch = batch.to(gpu)
            loss = net(**batch).loss
            loss.backward()
            optimizer.step()
            net.base_model.update_and_allocate(global_step)
            optimizer.zero_grad()
            global_step += 1
            if gpu == 0 and global_step % 100 == 0:
                print(f"[{epoch}] {global_step}/{total} {loss.item():.4f}")
    if dist.get_rank() == 0:
        net.module.save_pretrained("mnli-adapter")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
