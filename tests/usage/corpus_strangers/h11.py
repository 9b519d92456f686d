# torchrun --nproc_per_node=4 h11.py
import os

import torch
import torch.distributed as dist
from datasets import load_dataset
from peft import AdaLoraConfig, get_peft_model
from torch.nn.parallel import DistributedDataParallel as DDP
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler
from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding

MODEL = "roberta-large"
EPOCHS = 3


def setup():
    dist.init_process_group("nccl")
    local = int(os.environ["LOCAL_RANK"])
    torch.cuda.set_device(local)
    return local


def main():
    local = setup()
    rank = dist.get_rank()
    tok = AutoTokenizer.from_pretrained(MODEL)
    ds = load_dataset("glue", "qnli", split="train")
    ds = ds.map(lambda b: tok(b["question"], b["sentence"], truncation=True, max_length=256), batched=True)
    ds = ds.remove_columns(["question", "sentence", "idx"]).rename_column("label", "labels")

    sampler = DistributedSampler(ds, shuffle=True)
    loader = DataLoader(ds, batch_size=16, sampler=sampler, collate_fn=DataCollatorWithPadding(tok))
    total = EPOCHS * len(loader)  # len() already counts only this rank's share

    model = AutoModelForSequenceClassification.from_pretrained(MODEL, num_labels=2)
    model = get_peft_model(
        model,
        AdaLoraConfig(
            task_type="SEQ_CLS",
            init_r=12,
            target_r=8,
            lora_alpha=32,
            target_modules=["query", "key", "value"],
            tinit=int(0.1 * total),
            tfinal=int(0.2 * total),
            deltaT=20,
            total_step=total,
        ),
    ).to(local)
    ddp = DDP(model, device_ids=[local])
    opt = torch.optim.AdamW([p for p in ddp.parameters() if p.requires_grad], lr=3e-4)

    step = 0
    for epoch in range(EPOCHS):
        sampler.set_epoch(epoch)
        ddp.train()
        for batch in loader:
            batch = {k: v.to(local) for k, v in batch.items()}
            loss = ddp(**batch).loss
            loss.backward()
            opt.step()
            ddp.module.base_model.update_and_allocate(step)
            opt.zero_grad(set_to_none=True)
            step += 1
            if rank == 0 and step % 100 == 0:
                print(f"{epoch} {step}/{total} {loss.item():.4f}", flush=True)
        if rank == 0:
            ddp.module.save_pretrained(f"qnli/ep{epoch}")
        dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
