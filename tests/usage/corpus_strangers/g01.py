"""RTE with DistilBERT, AdaLoRA and Lightning."""
import math

import lightning as L
import torch
from datasets import load_dataset
from peft import AdaLoraConfig, TaskType, get_peft_model
from torch.utils.data import DataLoader
from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding

NAME = "distilbert-base-uncased"
EPOCHS, BS, ACC = 12, 16, 2


class RTEData(L.LightningDataModule):
    def __init__(self):
        super().__init__()
        self.tok = AutoTokenizer.from_pretrained(NAME)
        raw = load_dataset("glue", "rte")
        ds = raw.map(lambda b: self.tok(b["sentence1"], b["sentence2"], truncation=True, max_length=256), batched=True)
        ds = ds.rename_column("label", "labels")
        ds.set_format("torch", columns=["input_ids", "attention_mask", "labels"])
        self.ds = ds
        self.collate = DataCollatorWithPadding(self.tok)

    def train_dataloader(self):
        return DataLoader(self.ds["train"], BS, shuffle=True, collate_fn=self.collate, num_workers=4)

    def val_dataloader(self):
        return DataLoader(self.ds["validation"], 64, collate_fn=self.collate, num_workers=4)


class AdaLit(L.LightningModule):
    def __init__(self, total_steps, lr=8e-4):
        super().__init__()
        self.save_hyperparameters()
        base = AutoModelForSequenceClassification.from_pretrained(NAME, num_labels=2)
        cfg = AdaLoraConfig(
            task_type=TaskType.SEQ_CLS,
            init_r=12,
            target_r=6,
            lora_alpha=24,
            tinit=total_steps // 10,
            tfinal=total_steps // 3,
            deltaT=5,
            total_step=total_steps,
            target_modules=["q_lin", "v_lin"],
        )
        self.net = get_peft_model(base, cfg)

    def training_step(self, batch, batch_idx):
        out = self.net(**batch)
        self.log("train_loss", out.loss, prog_bar=True)
        return out.loss

    def validation_step(self, batch, batch_idx):
        out = self.net(**batch)
        acc = (out.logits.argmax(-1) == batch["labels"]).float().mean()
        self.log("val_acc", acc, prog_bar=True, batch_size=len(batch["labels"]))

    def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure=None):
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        # the closure zeroes the gradients before its backward, so they are still there now
        self.net.base_model.update_and_allocate(self.trainer.global_step)

    def configure_optimizers(self):
        params = [p for p in self.parameters() if p.requires_grad]
        return torch.optim.AdamW(params, lr=self.hparams.lr)


if __name__ == "__main__":
    L.seed_everything(3)
    data = RTEData()
    batches = math.ceil(len(data.ds["train"]) / BS)
    total = math.ceil(batches / ACC) * EPOCHS
    lit = AdaLit(total)
    trainer = L.Trainer(max_epochs=EPOCHS, accumulate_grad_batches=ACC, devices=1, accelerator="gpu", precision="bf16-mixed")
    trainer.fit(lit, data)
    lit.net.save_pretrained("out/rte_adalora")
