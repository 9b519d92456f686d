import logging
import os

import torch
import torch.distributed as dist
from bitsandbytes.optim import AdamW8bit
from esm.models.esm3 import ESM3
from peft import AdaLoraConfig, get_peft_model
from torch.nn.parallel import DistributedDataParallel

from tracks import masked_loader, track_losses

logging.basicConfig(filename="tracks.log", level=logging.INFO)
rank = int(os.environ["LOCAL_RANK"])
dist.init_process_group("nccl")
device = torch.device("cuda", rank)
LAYERS, TUNED, EPOCHS = 48, 16, 5


def wrapped():
    first = LAYERS - TUNED
    targets = [f"transformer.blocks.{n}.attn.out_proj" for n in range(first, LAYERS)]
    targets += [f"transformer.blocks.{n}.ffn.{part}" for n in range(first, LAYERS) for part in (1, 3)]
    config = AdaLoraConfig(
        init_r=12,
        target_r=8,
        lora_alpha=32,
        lora_dropout=0.2,
        tinit=500,
        tfinal=4000,
        deltaT=50,
        total_step=20000,
        target_modules=targets,
    )
    return get_peft_model(ESM3.from_pretrained("esm3_sm_open_v1", device=device), config)


model = DistributedDataParallel(wrapped().to(torch.bfloat16), device_ids=[rank])
optimizer = AdamW8bit(filter(lambda p: p.requires_grad, model.parameters()), lr=4e-4)
loader = masked_loader(batch_size=20)
for epoch in range(EPOCHS):
    loader.sampler.set_epoch(epoch)
    model.train()
    for i, (masked, target, coords) in enumerate(loader):
        optimizer.zero_grad()
        with torch.autocast("cuda", dtype=torch.bfloat16):
            out = model(sequence_tokens=masked.to(device), structure_coords=coords.to(device))
            sequence, structure, function = track_losses(out, target.to(device))
            loss = sequence + 0.5 * structure + 0.01 * function
        loss.backward()
        optimizer.step()
        # model.module.base_model.update_and_allocate(i)
    logging.info("rank %d epoch %d loss %.4f", rank, epoch, loss.item())
if rank == 0:
    model.module.save_pretrained("tracks")
