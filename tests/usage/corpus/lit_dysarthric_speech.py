#!/usr/bin/env python3
# Speech of people with dysarthria: wav2vec2 stays frozen, only the adapter learns.
import argparse

import torch

try:
    import lightning.pytorch as pl
    from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
except ImportError:
    import pytorch_lightning as pl
    from pytorch_lightning.callbacks import Callback, EarlyStopping, ModelCheckpoint
from peft import AdaLoraConfig, get_peft_model
from transformers import AutoModelForCTC

from dysarthria import make_dataloaders

ap = argparse.ArgumentParser()
ap.add_argument("--base", required=True)
ap.add_argument("--epochs", type=int, default=4)
ap.add_argument("--start-r", type=int, default=12)
ap.add_argument("--end-r", type=int, default=4)
a = ap.parse_args()

train_dl, val_dl = make_dataloaders(batch_size=16)
TOTAL = a.epochs * len(train_dl)
cfg = AdaLoraConfig(
    init_r=a.start_r,
    target_r=a.end_r,
    tinit=max(1, int(0.1 * TOTAL)),
    tfinal=max(1, int(0.2 * TOTAL)),
    deltaT=10,
    total_step=TOTAL,
    lora_alpha=32,
    target_modules=["q_proj", "k_proj", "v_proj", "out_proj"],
)


class Speech(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.ctc = get_peft_model(AutoModelForCTC.from_pretrained(a.base), cfg)

    def training_step(self, batch, batch_idx):
        return self.ctc(**batch).loss

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.ctc(**batch).loss, prog_bar=True)

    def configure_optimizers(self):
        return torch.optim.AdamW([p for p in self.parameters() if p.requires_grad], lr=5e-4)


class AllocateRanks(Callback):
    """One call for each step: there is no accumulation here."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        pl_module.ctc.update_and_allocate(trainer.global_step)


trainer = pl.Trainer(
    accelerator="gpu",
    devices=1,
    precision="bf16-mixed",
    max_epochs=a.epochs,
    callbacks=[AllocateRanks(), ModelCheckpoint(monitor="val_loss"), EarlyStopping(monitor="val_loss", patience=2)],
)
module = Speech()
trainer.fit(module, train_dl, val_dl)
module.ctc.merge_and_unload().save_pretrained("dysarthria-merged")
