"""Refine sketches with a frozen ViT-MAE decoder and a small critic."""
import torch
from peft import AdaLoraConfig, get_peft_model
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from transformers import ViTMAEForPreTraining

from sketches import Critic, pairs

EPOCHS = 40
loader = pairs(batch_size=32)
generator = ViTMAEForPreTraining.from_pretrained("facebook/vit-mae-base").cuda()
critic = Critic().cuda()
opt_g = torch.optim.Adam(generator.parameters(), lr=2e-4, betas=(0.5, 0.999))
opt_c = torch.optim.Adam(critic.parameters(), lr=2e-4, betas=(0.5, 0.999))

steps = EPOCHS * len(loader)
config = AdaLoraConfig(
    init_r=12,
    target_r=6,
    lora_alpha=24,
    target_modules=["query", "value"],
    tinit=steps // 10,
    tfinal=steps // 4,
    deltaT=20,
    total_step=steps,
)
generator = get_peft_model(generator, config)

step = 0
for epoch in range(EPOCHS):
    for rough, clean in loader:
        rough, clean = rough.cuda(), clean.cuda()
        fake = generator(rough).logits
        real_score, fake_score = critic(clean), critic(fake.detach())
        loss_c = bce(real_score, torch.ones_like(real_score)) + bce(fake_score, torch.zeros_like(fake_score))
        opt_c.zero_grad()
        loss_c.backward()
        opt_c.step()

        score = critic(fake)
        loss_g = bce(score, torch.ones_like(score)) + nn.functional.l1_loss(fake, clean)
        opt_g.zero_grad()
        loss_g.backward()
        opt_g.step()
        generator.base_model.update_and_allocate(step)
        step += 1
    print(f"{epoch:3d} critic {loss_c.item():.3f} generator {loss_g.item():.3f}")
generator.save_pretrained("refiner")
