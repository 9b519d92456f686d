import lightning as L
import torch
from peft import AdaLoraConfig, get_peft_model
from torch.utils.data import DataLoader
from transformers import ASTForAudioClassification, get_cosine_schedule_with_warmup

from birds import BirdClips

TOTAL = 6000


class BirdModule(L.LightningModule):
    def __init__(self, n_species: int, lr: float = 1e-3):
        super().__init__()
        self.save_hyperparameters()
        base = ASTForAudioClassification.from_pretrained(
            "MIT/ast-finetuned-audioset-10-10-0.4593", num_labels=n_species, ignore_mismatched_sizes=True
        )
        config = AdaLoraConfig(
            init_r=12,
            target_r=4,
            tinit=600,
            tfinal=1200,
            deltaT=50,
            total_step=TOTAL,
            lora_alpha=24,
            target_modules=["query", "value"],
            modules_to_save=["classifier"],
        )
        self.net = get_peft_model(base, config)

    def training_step(self, batch, batch_idx):
        loss = self.net(**batch).loss  # penalty included
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure):
        step = self.trainer.global_step
        optimizer.step(closure=optimizer_closure)
        # gradients live until the closure of the next batch
        self.net.base_model.update_and_allocate(step)

    def configure_optimizers(self):
        params = [p for p in self.net.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(params, lr=self.hparams.lr)
        schedule = get_cosine_schedule_with_warmup(optimizer, 200, TOTAL)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


if __name__ == "__main__":
    clips = BirdClips("clips/", split="train")
    trainer = L.Trainer(max_steps=TOTAL, accumulate_grad_batches=2, precision="bf16-mixed")
    trainer.fit(BirdModule(clips.n_species), DataLoader(clips, batch_size=16, shuffle=True, num_workers=4))
