import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler, UNet2DConditionModel
from peft import AdaLoraConfig, get_peft_model


def orthogonality(model):
    terms = []
    for name, p in model.named_parameters():
        if "lora_A" in name or "lora_B" in name:
            gram = p @ p.T if "lora_A" in name else p.T @ p
            eye = torch.eye(gram.shape[0], device=gram.device, dtype=gram.dtype)
            terms.append(torch.linalg.norm(gram - eye))
    return torch.stack(terms).mean()


class NoiseModel(pl.LightningModule):
    automatic_optimization = False

    def __init__(self, repo, steps, weight=0.3):
        super().__init__()
        unet = UNet2DConditionModel.from_pretrained(repo, subfolder="unet")
        self.weight = weight
        self.unet = get_peft_model(unet, AdaLoraConfig(
            init_r=8, target_r=4, lora_alpha=8, orth_reg_weight=weight,
            tinit=200, tfinal=500, deltaT=25, total_step=steps,
            target_modules=["to_q", "to_k", "to_v"],
        ))
        self.noise = DDPMScheduler.from_pretrained(repo, subfolder="scheduler")

    def training_step(self, batch, _):
        opt = self.optimizers()
        eps = torch.randn_like(batch["latent"])
        t = torch.randint(0, 1000, (eps.shape[0],), device=self.device)
        noisy = self.noise.add_noise(batch["latent"], eps, t)
        guess = self.unet(noisy, t, encoder_hidden_states=batch["text"]).sample
        loss = F.mse_loss(guess, eps) + self.weight * orthogonality(self.unet)

        opt.zero_grad()
        self.manual_backward(loss)
        opt.step()
        self.unet.base_model.update_and_allocate(self.global_step)
        self.log("loss", loss)

    def configure_optimizers(self):
        return torch.optim.AdamW([p for p in self.unet.parameters() if p.requires_grad], lr=1e-4)
