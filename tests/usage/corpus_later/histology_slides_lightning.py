import pytorch_lightning as pl
import torch
from peft import AdaLoraConfig, get_peft_model
from torch import nn
from transformers import Dinov2ForImageClassification


class SlideNet(pl.LightningModule):
    def __init__(self, classes: int, steps: int, lr=2e-4, unfreeze_bias=False):
        super().__init__()
        self.save_hyperparameters()
        dino = Dinov2ForImageClassification.from_pretrained("facebook/dinov2-base", num_labels=classes)
        self.net = get_peft_model(dino, AdaLoraConfig(
            init_r=12, target_r=4, lora_alpha=12, tinit=100, tfinal=400, deltaT=20,
            total_step=steps, target_modules=["query", "value"], modules_to_save=["classifier"],
        ))
        if unfreeze_bias:
            for name, p in self.net.named_parameters():
                if name.endswith("base_layer.bias"):
                    p.requires_grad = True

    def on_train_start(self):
        n = int(self.trainer.estimated_stepping_batches)
        for c in self.net.peft_config.values():
            c.total_step = n

    def training_step(self, batch, i):
        out = self.net(pixel_values=batch["image"], labels=batch["label"])
        self.log("loss", out.loss)
        return out.loss

    def on_before_optimizer_step(self, optimizer):
        strict = torch.are_deterministic_algorithms_enabled()
        torch.use_deterministic_algorithms(False)  # kthvalue on CUDA
        try:
            self.net.base_model.update_and_allocate(self.global_step)
        finally:
            torch.use_deterministic_algorithms(strict)

    def configure_optimizers(self):
        return torch.optim.AdamW([p for p in self.net.parameters() if p.requires_grad], lr=self.hparams.lr)


def main():
    from slides import SlideModule
    pl.seed_everything(5)
    data = SlideModule("tiles/", batch=48)
    pl.Trainer(max_steps=5000, deterministic=True).fit(SlideNet(classes=6, steps=5000), data)


if __name__ == "__main__":
    main()
