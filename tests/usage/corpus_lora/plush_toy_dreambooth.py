import argparse

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from diffusers.training_utils import cast_training_params
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from transformers import CLIPTextModel

from toys import make_loader


def main(args):
    accelerator = Accelerator(gradient_accumulation_steps=args.accumulate)
    scheduler = DDPMScheduler.from_pretrained(args.model, subfolder="scheduler")
    text_encoder = CLIPTextModel.from_pretrained(args.model, subfolder="text_encoder")
    vae = AutoencoderKL.from_pretrained(args.model, subfolder="vae")
    unet = UNet2DConditionModel.from_pretrained(args.model, subfolder="unet")
    for frozen in (vae, text_encoder, unet):
        frozen.requires_grad_(False)
    unet_config = LoraConfig(
        r=args.rank,
        lora_alpha=args.rank,
        init_lora_weights="gaussian",
        target_modules=["to_k", "to_q", "to_v", "to_out.0", "add_k_proj", "add_v_proj"],
    )
    unet.add_adapter(unet_config)
    if args.train_text_encoder:
        text_encoder.add_adapter(
            LoraConfig(r=args.rank, lora_alpha=args.rank, target_modules=["q_proj", "k_proj", "v_proj", "out_proj"])
        )
    cast_training_params(unet, dtype=torch.float32)
    params = [p for p in unet.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(params, lr=args.lr)
    loader = make_loader(args)
    unet, optimizer, loader = accelerator.prepare(unet, optimizer, loader)
    for epoch in range(args.epochs):
        for batch in loader:
            with accelerator.accumulate(unet):
                latents = vae.encode(batch["pixels"]).latent_dist.sample() * vae.config.scaling_factor
                noise = torch.randn_like(latents)
                steps = torch.randint(0, scheduler.config.num_train_timesteps, (len(latents),))
                noisy = scheduler.add_noise(latents, noise, steps)
                guess = unet(noisy, steps, text_encoder(batch["ids"])[0]).sample
                accelerator.backward(F.mse_loss(guess.float(), noise.float()))
                optimizer.step()
                optimizer.zero_grad()
    torch.save(get_peft_model_state_dict(accelerator.unwrap_model(unet)), args.out)


if __name__ == "__main__":
    p = argparse.ArgumentParser()
    p.add_argument("--model")
    p.add_argument("--out", default="toy.pt")
    p.add_argument("--rank", type=int, default=4)
    p.add_argument("--lr", type=float, default=1e-4)
    p.add_argument("--epochs", type=int, default=100)
    p.add_argument("--accumulate", type=int, default=1)
    p.add_argument("--train_text_encoder", action="store_true")
    main(p.parse_args())
