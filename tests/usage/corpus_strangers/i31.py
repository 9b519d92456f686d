import pytorch_lightning as pl
import torch
from datasets import load_dataset
from peft import AdaLoraConfig, TaskType, get_peft_model
from pytorch_lightning.callbacks import LearningRateMonitor
from torch.utils.data import DataLoader
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, DataCollatorForSeq2Seq


class DialogData(pl.LightningDataModule):
    def __init__(self, tok, bs=8):
        super().__init__()
        self.tok, self.bs = tok, bs

    def setup(self, stage=None):
        ds = load_dataset("knkarthick/dialogsum")

        def enc(b):
            x = self.tok(b["dialogue"], truncation=True, max_length=512)
            x["labels"] = self.tok(text_target=b["summary"], truncation=True, max_length=96)["input_ids"]
            return x
        self.ds = ds.map(enc, batched=True, remove_columns=ds["train"].column_names)

    def train_dataloader(self):
        return DataLoader(self.ds["train"], self.bs, shuffle=True, collate_fn=DataCollatorForSeq2Seq(self.tok))

    def val_dataloader(self):
        return DataLoader(self.ds["validation"], self.bs, collate_fn=DataCollatorForSeq2Seq(self.tok))


class AdaLoraSummarizer(pl.LightningModule):
    def __init__(self, base, total_steps, lr=1e-3):
        super().__init__()
        self.lr = lr
        cfg = AdaLoraConfig(task_type=TaskType.SEQ_2_SEQ_LM, init_r=12, target_r=8, tinit=200,
                            tfinal=800, deltaT=10, total_step=total_steps,
                            target_modules=["q", "v", "wi_0", "wi_1"])
        self.model = get_peft_model(AutoModelForSeq2SeqLM.from_pretrained(base), cfg)

    def training_step(self, batch, _):
        loss = self.model(**batch).loss
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch, _):
        self.log("val/loss", self.model(**batch).loss, prog_bar=True)

    def on_before_zero_grad(self, optimizer):
        self.model.base_model.update_and_allocate(self.trainer.global_step)

    def configure_optimizers(self):
        return torch.optim.AdamW([p for p in self.parameters() if p.requires_grad], lr=self.lr)


if __name__ == "__main__":
    base, epochs = "google/flan-t5-base", 4
    dm = DialogData(AutoTokenizer.from_pretrained(base))
    dm.setup()
    lit = AdaLoraSummarizer(base, total_steps=len(dm.train_dataloader()) * epochs)
    trainer = pl.Trainer(max_epochs=epochs, accelerator="gpu", devices=1,
                         callbacks=[LearningRateMonitor()])
    trainer.fit(lit, datamodule=dm)
    lit.model.save_pretrained("dialogsum-adapter")
