"""PyTorch Lightning: paraphrase detection, AdaLoRA on ELECTRA."""
import pytorch_lightning as pl
import torch
from datasets import load_dataset
from peft import AdaLoraConfig, TaskType, get_peft_model
from pytorch_lightning.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader
from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding

NAME = "google/electra-base-discriminator"


class Data(pl.LightningDataModule):
    def setup(self, stage=None):
        tok = AutoTokenizer.from_pretrained(NAME)
        d = load_dataset("glue", "qqp")
        d = d.map(lambda b: tok(b["question1"], b["question2"], truncation=True, max_length=128), batched=True)
        self.d = d.remove_columns(["question1", "question2", "idx"]).rename_column("label", "labels")
        self.c = DataCollatorWithPadding(tok)

    def train_dataloader(self):
        return DataLoader(self.d["train"], 32, shuffle=True, collate_fn=self.c, num_workers=4)

    def val_dataloader(self):
        return DataLoader(self.d["validation"], 64, collate_fn=self.c, num_workers=4)


class Paraphrase(pl.LightningModule):
    def __init__(self, max_steps, lr=5e-4):
        super().__init__()
        self.save_hyperparameters()
        base = AutoModelForSequenceClassification.from_pretrained(NAME, num_labels=2)
        self.model = get_peft_model(base, AdaLoraConfig(
            task_type=TaskType.SEQ_CLS, init_r=12, target_r=8, lora_alpha=32,
            target_modules=["query", "key", "value"],
            tinit=max_steps // 10, tfinal=max_steps // 4, deltaT=10, total_step=max_steps)).train()

    def training_step(self, batch, _):
        out = self.model(**batch)
        self.log("train_loss", out.loss)
        return out.loss

    def validation_step(self, batch, _):
        out = self.model(**batch)
        self.log("val_acc", (out.logits.argmax(-1) == batch["labels"]).float().mean(), prog_bar=True)

    def on_before_zero_grad(self, optimizer):
        # gradients are about to be cleared, so this is the last chance to use them
        self.model.base_model.update_and_allocate(self.global_step)

    def configure_optimizers(self):
        return torch.optim.AdamW([p for p in self.model.parameters() if p.requires_grad], lr=self.hparams.lr)


if __name__ == "__main__":
    pl.seed_everything(1)
    N = 10_000
    lit = Paraphrase(N)
    tr = pl.Trainer(max_steps=N, accelerator="gpu", devices=1, val_check_interval=2500,
                    callbacks=[ModelCheckpoint(monitor="val_acc", mode="max")])
    tr.fit(lit, datamodule=Data())
    lit.model.save_pretrained("qqp-adalora")
