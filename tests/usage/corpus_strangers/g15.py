import pytorch_lightning as pl
import torch
from datasets import load_dataset
from peft import AdaLoraConfig, get_peft_model
from torch.utils.data import DataLoader
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, DataCollatorForSeq2Seq


class Summarizer(pl.LightningModule):
    def __init__(self, name, total_step, lr=1e-3):
        super().__init__()
        self.save_hyperparameters()
        base = AutoModelForSeq2SeqLM.from_pretrained(name)
        self.model = get_peft_model(base, AdaLoraConfig(
            task_type="SEQ_2_SEQ_LM",
            init_r=12,
            target_r=8,
            tinit=int(total_step * 0.1),
            tfinal=int(total_step * 0.3),
            deltaT=10,
            total_step=total_step,
            target_modules=["q_proj", "v_proj"],
        ))

    def forward(self, **b):
        return self.model(**b)

    def training_step(self, batch, idx):
        loss = self(**batch).loss
        self.log("loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch, idx):
        self.log("val_loss", self(**batch).loss, prog_bar=True, sync_dist=True)

    def on_before_zero_grad(self, optimizer):
        # last chance to see the gradients
        self.model.base_model.update_and_allocate(self.global_step)

    def configure_optimizers(self):
        return torch.optim.AdamW(filter(lambda p: p.requires_grad, self.parameters()), lr=self.hparams.lr)


def main():
    pl.seed_everything(1)
    name, bs, epochs = "facebook/bart-base", 8, 3
    tok = AutoTokenizer.from_pretrained(name)
    ds = load_dataset("xsum")

    def prep(b):
        x = tok(b["document"], truncation=True, max_length=512)
        x["labels"] = tok(text_target=b["summary"], truncation=True, max_length=64)["input_ids"]
        return x

    ds = ds.map(prep, batched=True, remove_columns=["document", "summary", "id"])
    coll = DataCollatorForSeq2Seq(tok)
    train = DataLoader(ds["train"].select(range(40000)), bs, shuffle=True, collate_fn=coll, num_workers=8)
    val = DataLoader(ds["validation"].select(range(2000)), bs, collate_fn=coll, num_workers=8)

    module = Summarizer(name, total_step=len(train) * epochs)
    trainer = pl.Trainer(max_epochs=epochs, accelerator="gpu", devices=1, precision="bf16-mixed", log_every_n_steps=20)
    trainer.fit(module, train, val)
    module.model.save_pretrained("bart-xsum-adalora")


if __name__ == "__main__":
    main()
