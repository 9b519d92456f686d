"""Adapt the attention of a diffusion model by `add_adapter` and train it on noise.

Source: huggingface/diffusers, examples/text_to_image/train_text_to_image_lora.py (with
`AdaLoraConfig`)
"""

import torch
from accelerate import Accelerator
from diffusers import DDPMScheduler, UNet2DConditionModel
from peft import AdaLoraConfig
from peft.utils import get_peft_model_state_dict
from script_parts import kept, numbers
from torch.nn import functional

# attach: from adalora_core import allocate_on_step
# attach: from adalora_core.bridge import attach

torch.manual_seed(1)
unet = UNet2DConditionModel(
    sample_size=8,
    in_channels=4,
    out_channels=4,
    block_out_channels=(8, 16),
    layers_per_block=1,
    cross_attention_dim=8,
    attention_head_dim=4,
    norm_num_groups=4,
    down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
    up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
)
unet.requires_grad_(False)
diffusion = DDPMScheduler(num_train_timesteps=100)
accelerator = Accelerator(cpu=True)
config = AdaLoraConfig(
    init_r=4,
    target_r=2,
    tinit=1,
    tfinal=2,
    total_step=8,
    lora_alpha=4,
    target_modules=["to_k", "to_q", "to_v", "to_out.0"],
)
unet.add_adapter(config)
trainable = filter(lambda p: p.requires_grad, unet.parameters())
optimizer = torch.optim.AdamW(trainable, lr=1e-3)
# attach: allocate_on_step(optimizer, attach(unet))
unet, optimizer = accelerator.prepare(unet, optimizer)
latents, text = numbers(4, 4, 8, 8), numbers(4, 3, 8, seed=3)
losses = []
unet.train()
for step in range(8):
    with accelerator.accumulate(unet):
        noise = numbers(4, 4, 8, 8, seed=10 + step)
        timesteps = torch.full((4,), 10 * step, dtype=torch.long)
        noisy = diffusion.add_noise(latents, noise, timesteps)
        prediction = unet(noisy, timesteps, text, return_dict=False)[0]
        loss = functional.mse_loss(prediction.float(), noise.float(), reduction="mean")
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(unet.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    losses.append(loss.item())
state = get_peft_model_state_dict(accelerator.unwrap_model(unet))

outcome = {
    "train_losses": losses,
    "kept": kept(unet),
    "keys": len(state),
}
