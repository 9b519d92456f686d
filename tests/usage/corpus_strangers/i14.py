import lightning.pytorch as pl
import torch
from datasets import load_dataset
from peft import AdaLoraConfig, get_peft_model
from torch.utils.data import DataLoader
from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding


class RteModule(pl.LightningModule):
    def __init__(self, name, total_steps, lr=1e-3):
        super().__init__()
        self.save_hyperparameters()
        base = AutoModelForSequenceClassification.from_pretrained(name, num_labels=2)
        self.model = get_peft_model(base, AdaLoraConfig(
            task_type="SEQ_CLS", init_r=12, target_r=8, deltaT=5,
            tinit=int(.1 * total_steps), tfinal=int(.3 * total_steps),
            total_step=total_steps, target_modules=["query", "value"]))
        self.seen = 0

    def training_step(self, batch, idx):
        loss = self.model(**batch).loss
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch, idx):
        out = self.model(**batch)
        acc = (out.logits.argmax(-1) == batch["labels"]).float().mean()
        self.log("val_acc", acc, prog_bar=True)

    def optimizer_step(self, *args, **kwargs):
        super().optimizer_step(*args, **kwargs)
        # Lightning zeroes the gradients only in the next closure
        self.model.base_model.update_and_allocate(self.seen)
        self.seen += 1

    def configure_optimizers(self):
        return torch.optim.AdamW((p for p in self.parameters() if p.requires_grad), lr=self.hparams.lr)


def loaders(name, bs=16):
    tok = AutoTokenizer.from_pretrained(name)
    ds = load_dataset("glue", "rte").map(
        lambda b: tok(b["sentence1"], b["sentence2"], truncation=True, max_length=256),
        batched=True, remove_columns=["sentence1", "sentence2", "idx"]).rename_column("label", "labels")
    c = DataCollatorWithPadding(tok)
    return (DataLoader(ds["train"], bs, shuffle=True, collate_fn=c),
            DataLoader(ds["validation"], 32, collate_fn=c))


if __name__ == "__main__":
    pl.seed_everything(3)
    NAME, EPOCHS = "bert-base-uncased", 10
    tr, va = loaders(NAME)
    module = RteModule(NAME, len(tr) * EPOCHS)
    trainer = pl.Trainer(max_epochs=EPOCHS, accelerator="gpu", devices=1, gradient_clip_val=1.0)
    trainer.fit(module, tr, va)
    module.model.save_pretrained("rte-adapter")
