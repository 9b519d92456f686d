"""Fine-tune a diffusion UNet on castle drawings."""
import math

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from peft import AdaLoraConfig, get_peft_model
from torch.utils.data import DataLoader

from castles import CastleDrawings

EPOCHS, ACCUM, ORTH = 10, 2, 0.1
PROJECTIONS = ["to_q", "to_k", "to_v", "to_out.0"]


def orthogonality(unet):
    """Mean distance of A A^T and B^T B from the identity, as the paper adds it."""
    total, count = 0.0, 0
    for name, weight in unet.named_parameters():
        if "lora_A" in name or "lora_B" in name:
            gram = weight @ weight.T if "lora_A" in name else weight.T @ weight
            total = total + torch.norm(gram - torch.eye(gram.size(0), device=gram.device))
            count += 1
    return total / max(count, 1)


loader = DataLoader(CastleDrawings("train.jsonl"), batch_size=4, shuffle=True)
updates = math.ceil(len(loader) / ACCUM) * EPOCHS
repo = "sd-legacy/stable-diffusion-v1-5"
vae = AutoencoderKL.from_pretrained(repo, subfolder="vae").cuda().requires_grad_(False)
noiser = DDPMScheduler.from_pretrained(repo, subfolder="scheduler")
unet = UNet2DConditionModel.from_pretrained(repo, subfolder="unet").cuda()
unet = get_peft_model(unet, AdaLoraConfig(
    init_r=16, target_r=8, lora_alpha=16, target_modules=PROJECTIONS, orth_reg_weight=ORTH,
    tinit=int(0.1 * updates), tfinal=int(0.2 * updates), deltaT=5, total_step=updates))
optimizer = torch.optim.AdamW(filter(lambda p: p.requires_grad, unet.parameters()), lr=1e-4)

global_step = 0
for epoch in range(EPOCHS):
    for i, batch in enumerate(loader):
        latents = vae.encode(batch["pixels"].cuda()).latent_dist.sample() * 0.18215
        noise = torch.randn_like(latents)
        t = torch.randint(0, 1000, (latents.shape[0],), device="cuda")
        guess = unet(noiser.add_noise(latents, noise, t), t, batch["prompt"].cuda()).sample
        loss = F.mse_loss(guess, noise) + ORTH * orthogonality(unet)
        (loss / ACCUM).backward()
        if (i + 1) % ACCUM == 0 or i + 1 == len(loader):
            optimizer.step()
            global_step += 1
            unet.base_model.update_and_allocate(global_step)
            optimizer.zero_grad(set_to_none=True)
unet.save_pretrained("castle_unet")
