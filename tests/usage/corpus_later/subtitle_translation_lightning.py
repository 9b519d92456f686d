import argparse

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
from peft import AdaLoraConfig, TaskType, get_peft_model
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from subtitles import SubtitlePairs


class Translator(pl.LightningModule):
    def __init__(self, args):
        super().__init__()
        self.args = args
        self.tok = AutoTokenizer.from_pretrained(args.model)
        config = AdaLoraConfig(
            task_type=TaskType.SEQ_2_SEQ_LM,
            init_r=16,
            target_r=8,
            lora_alpha=32,
            lora_dropout=0.1,
            tinit=args.steps // 10,
            tfinal=args.steps // 4,
            deltaT=10,
            total_step=args.steps,
            target_modules=["q_proj", "k_proj", "v_proj"],
        )
        self.mt = get_peft_model(AutoModelForSeq2SeqLM.from_pretrained(args.model), config)

    def training_step(self, batch, batch_idx):
        out = self.mt(**batch)
        self.log("train_loss", out.loss, prog_bar=True)
        return out.loss

    def on_train_batch_end(self, outputs, batch, batch_idx):
        self.mt.base_model.update_and_allocate(self.global_step)

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.mt(**batch).loss)

    def configure_optimizers(self):
        return torch.optim.AdamW(self.mt.parameters(), lr=self.args.lr)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="facebook/m2m100_418M")
    parser.add_argument("--lr", type=float, default=3e-4)
    parser.add_argument("--steps", type=int, required=True)
    args = parser.parse_args()
    trainer = pl.Trainer(
        max_steps=args.steps,
        accumulate_grad_batches=8,
        callbacks=[LearningRateMonitor(), ModelCheckpoint(monitor="val_loss")],
    )
    module = Translator(args)
    trainer.fit(module, datamodule=SubtitlePairs(module.tok, batch_size=4))
