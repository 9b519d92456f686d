import lightning.pytorch as pl
import torch
from peft import AdaLoraConfig, get_peft_model
from transformers import DonutProcessor, VisionEncoderDecoderModel


class ReceiptReader(pl.LightningModule):
    def __init__(self, name="naver-clova-ix/donut-base", lr=3e-4, warm=250, tail=750, max_steps=5000):
        super().__init__()
        self.save_hyperparameters()
        self.processor = DonutProcessor.from_pretrained(name)
        donut = VisionEncoderDecoderModel.from_pretrained(name)
        self.reader = get_peft_model(
            donut,
            AdaLoraConfig(
                target_modules=r".*decoder.*\.(q_proj|v_proj)",
                init_r=16,
                target_r=8,
                lora_alpha=32,
                deltaT=25,
                tinit=warm,
                tfinal=tail,
                total_step=max_steps,
            ),
        )

    def training_step(self, batch, batch_idx):
        pixels, labels = batch
        loss = self.reader(pixel_values=pixels, labels=labels).loss
        self.log_dict({"train_loss": loss}, sync_dist=True)
        return loss

    def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure=None):
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        # let AdaLoRA move its budget
        self.reader.base_model.update_and_allocate(self.hparams.warm)

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.reader.parameters(), lr=self.hparams.lr)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {
                "scheduler": torch.optim.lr_scheduler.OneCycleLR(
                    optimizer, self.hparams.lr, total_steps=self.hparams.max_steps
                ),
                "interval": "step",
            },
        }


if __name__ == "__main__":
    from receipts import CordDataModule

    module = ReceiptReader()
    pl.Trainer(max_steps=5000, accelerator="gpu", gradient_clip_val=1.0).fit(
        module, CordDataModule("cord-v2", module.processor, batch_size=4)
    )
