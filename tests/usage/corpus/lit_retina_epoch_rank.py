import pytorch_lightning as pl
import torch
from peft import AdaLoraConfig, get_peft_model
from transformers import ViTForImageClassification

from retina import RetinaData


class RetinaGrader(pl.LightningModule):
    """Five grades of retinopathy, ViT-B/16 with adaptive ranks."""

    GRADES = 5

    def __init__(self, lr=5e-4):
        super().__init__()
        self.lr = lr
        vit = ViTForImageClassification.from_pretrained(
            "google/vit-base-patch16-224-in21k", num_labels=self.GRADES
        )
        cfg = AdaLoraConfig(
            init_r=16,
            target_r=8,
            tinit=5,
            tfinal=10,
            deltaT=1,
            total_step=40,
            lora_alpha=32,
            target_modules=["query", "value"],
            modules_to_save=["classifier"],
        )
        self.vit = get_peft_model(vit, cfg)

    def forward(self, pixel_values, labels=None):
        return self.vit(pixel_values=pixel_values, labels=labels)

    def training_step(self, batch, batch_idx):
        out = self(batch["pixel_values"], batch["labels"])
        self.log("loss", out.loss)
        return out.loss

    def optimizer_step(self, *args, **kwargs):
        super().optimizer_step(*args, **kwargs)
        self.vit.base_model.update_and_allocate(self.current_epoch)

    def configure_optimizers(self):
        return torch.optim.AdamW(self.vit.parameters(), lr=self.lr)


if __name__ == "__main__":
    trainer = pl.Trainer(max_epochs=40, accelerator="gpu", devices=1)
    trainer.fit(RetinaGrader(), datamodule=RetinaData("eyepacs/", batch_size=32))
