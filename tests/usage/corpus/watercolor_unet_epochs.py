"""LoRA and AdaLoRA for the UNet of Stable Diffusion, one epoch after the other."""
import argparse
import math

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from peft import AdaLoraConfig, LoraConfig, get_peft_model
from torch.utils.data import DataLoader

from watercolors import Watercolors, encode, noised


def one_epoch(unet, loader, optimizer, scaler, every, step, method):
    unet.train()
    for i, picture in enumerate(loader):
        latents, words = encode(picture)
        noisy, noise, t = noised(latents)
        with torch.autocast("cuda"):
            guess = unet(noisy, t, words).sample
            loss = F.mse_loss(guess.float(), noise.float()) / every
        scaler.scale(loss).backward()
        if (i + 1) % every == 0:
            scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(unet.parameters(), max_norm=0.5)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad(set_to_none=True)
            step += 1
            if method == "adalora" and hasattr(unet, "update_and_allocate"):
                for weight in unet.parameters():
                    if weight.requires_grad and weight.grad is None:
                        weight.grad = torch.zeros_like(weight)
                unet.update_and_allocate(step)
    return step


if __name__ == "__main__":
    p = argparse.ArgumentParser()
    p.add_argument("--method", default="lora", choices=["lora", "adalora"])
    p.add_argument("--every", type=int, default=2)
    p.add_argument("--epochs", type=int, default=10)
    a = p.parse_args()
    loader = DataLoader(Watercolors("train.jsonl"), batch_size=4, shuffle=True)
    total = math.ceil(len(loader) / a.every) * a.epochs
    shared = dict(lora_alpha=16, lora_dropout=0.05, target_modules=["to_q", "to_k", "to_v", "to_out.0"])
    if a.method == "adalora":
        config = AdaLoraConfig(
            init_r=16, target_r=8, total_step=total, tinit=total // 10, tfinal=total // 10, deltaT=5, **shared
        )
    else:
        config = LoraConfig(r=16, **shared)
    unet = UNet2DConditionModel.from_pretrained("sd-legacy/stable-diffusion-v1-5", subfolder="unet").cuda()
    unet = get_peft_model(unet.requires_grad_(False), config)
    optimizer = torch.optim.AdamW([w for w in unet.parameters() if w.requires_grad], lr=1e-4)
    scaler, step = torch.amp.GradScaler("cuda"), 0
    for epoch in range(a.epochs):
        step = one_epoch(unet, loader, optimizer, scaler, a.every, step, a.method)
