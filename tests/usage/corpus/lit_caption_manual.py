import lightning.pytorch as pl
import torch
from peft import AdaLoraConfig, TaskType, get_peft_model
from transformers import AutoTokenizer, VisionEncoderDecoderModel


class Captioner(pl.LightningModule):
    def __init__(self, every_n: int = 4, updates: int = 5000):
        super().__init__()
        self.automatic_optimization = False
        self.every_n = every_n
        self.updates_done = 0
        base = VisionEncoderDecoderModel.from_pretrained("nlpconnect/vit-gpt2-image-captioning")
        self.captioner = get_peft_model(
            base,
            AdaLoraConfig(
                target_modules=["c_attn", "query", "value"],
                init_r=8,
                target_r=4,
                tinit=updates // 10,
                tfinal=updates // 5,
                deltaT=25,
                total_step=updates,
                lora_alpha=16,
            ),
        )
        self.tokenizer = AutoTokenizer.from_pretrained("nlpconnect/vit-gpt2-image-captioning")

    def training_step(self, batch, batch_idx):
        opt = self.optimizers()
        loss = self.captioner(pixel_values=batch["image"], labels=batch["caption"]).loss
        self.manual_backward(loss / self.every_n)

        if (batch_idx + 1) % self.every_n == 0:
            self.clip_gradients(opt, gradient_clip_val=1.0, gradient_clip_algorithm="norm")
            opt.step()
            self.captioner.base_model.update_and_allocate(self.updates_done)
            opt.zero_grad()
            self.updates_done += 1
            self.lr_schedulers().step()
        self.log("loss", loss, prog_bar=True)

    def configure_optimizers(self):
        opt = torch.optim.AdamW((p for p in self.captioner.parameters() if p.requires_grad), lr=2e-4)
        return [opt], [torch.optim.lr_scheduler.CosineAnnealingLR(opt, T_max=5000)]


if __name__ == "__main__":
    from captions import CaptionData

    pl.Trainer(max_epochs=-1, max_steps=5000, devices=2).fit(Captioner(), datamodule=CaptionData("flickr8k"))
