# DDP + gradient accumulation with no_sync + bf16 autocast
# torchrun --nproc_per_node=2 g26.py
import contextlib
import os

import torch
import torch.distributed as dist
import yaml
from datasets import load_from_disk
from peft import AdaLoraConfig, get_peft_model
from torch.nn.parallel import DistributedDataParallel as DDP
from torch.utils.data import DataLoader, DistributedSampler
from transformers import AutoModelForCausalLM, default_data_collator

CFG = yaml.safe_load("""
model: EleutherAI/pythia-410m
data: data/blocks          # input_ids and labels, 1024 tokens each
epochs: 2
micro: 4
accum: 4
lr: 6.0e-4
adalora:
  init_r: 16
  target_r: 8
  lora_alpha: 16
  deltaT: 5
  target_modules: [query_key_value, dense]
""")


def setup():
    dist.init_process_group("nccl")
    r = int(os.environ["LOCAL_RANK"])
    torch.cuda.set_device(r)
    return r


def main():
    r = setup()
    ds = load_from_disk(CFG["data"])
    sampler = DistributedSampler(ds, drop_last=True)
    loader = DataLoader(ds, CFG["micro"], sampler=sampler, collate_fn=default_data_collator, drop_last=True)
    steps_per_epoch = len(loader) // CFG["accum"]      # an incomplete last group is skipped below
    total = steps_per_epoch * CFG["epochs"]

    model = AutoModelForCausalLM.from_pretrained(CFG["model"], torch_dtype=torch.float32)
    model = get_peft_model(model, AdaLoraConfig(task_type="CAUSAL_LM", total_step=total, tinit=total // 10,
                                                tfinal=total // 4, **CFG["adalora"]))
    ddp = DDP(model.to(r), device_ids=[r])
    opt = torch.optim.AdamW([p for p in ddp.parameters() if p.requires_grad], lr=CFG["lr"])

    step = 0
    for epoch in range(CFG["epochs"]):
        sampler.set_epoch(epoch)
        ddp.train()
        for i, batch in enumerate(loader):
            if i >= steps_per_epoch * CFG["accum"]:
                break
            last = (i + 1) % CFG["accum"] == 0
            batch = {k: v.to(r) for k, v in batch.items()}
            with contextlib.nullcontext() if last else ddp.no_sync():
                with torch.autocast("cuda", dtype=torch.bfloat16):
                    loss = ddp(**batch).loss / CFG["accum"]
                loss.backward()
            if not last:
                continue
            torch.nn.utils.clip_grad_norm_(ddp.parameters(), 1.0)
            opt.step()
            step += 1
            ddp.module.base_model.update_and_allocate(step)
            opt.zero_grad(set_to_none=True)
            if r == 0 and step % 10 == 0:
                print(f"{step}/{total} {loss.item() * CFG['accum']:.4f}", flush=True)
    if r == 0:
        ddp.module.save_pretrained("pythia-adalora")
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
