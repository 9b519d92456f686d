import os

import torch
import torch.distributed as dist
from peft import AdaLoraConfig, get_peft_model
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler
from transformers import AutoModelForCausalLM

from snippets import SnippetDataset, collate

dist.init_process_group("nccl")
local_rank = int(os.environ["LOCAL_RANK"])
torch.cuda.set_device(local_rank)
device = torch.device("cuda", local_rank)
epochs = 3


def build(total_steps):
    base = AutoModelForCausalLM.from_pretrained("Salesforce/codegen-350M-mono")
    config = AdaLoraConfig(
        task_type="CAUSAL_LM",
        init_r=12,
        target_r=6,
        lora_alpha=24,
        target_modules=["qkv_proj", "out_proj"],
        tinit=total_steps // 10,
        tfinal=total_steps // 5,
        deltaT=10,
        total_step=total_steps,
    )
    wrapped = get_peft_model(base, config).to(device)
    return DistributedDataParallel(wrapped, device_ids=[local_rank])


snippets = SnippetDataset("train.jsonl")
sampler = DistributedSampler(snippets)
loader = DataLoader(snippets, batch_size=8, sampler=sampler, collate_fn=collate, drop_last=True)
model = build(len(loader) * epochs)
optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=2e-4)

for epoch in range(epochs):
    sampler.set_epoch(epoch)
    model.train()
    for batch in loader:
        optimizer.zero_grad()
        loss = model(**{k: v.to(device) for k, v in batch.items()}).loss
        loss.backward()
        optimizer.step()
        model.module.base_model.update_and_allocate(local_rank)
    if local_rank == 0:
        print(f"epoch {epoch}: {loss.item():.3f}")
        model.module.save_pretrained(f"codegen/{epoch}")
dist.destroy_process_group()
