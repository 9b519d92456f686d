import lightning as L
import torch
from datasets import load_dataset
from peft import AdaLoraConfig, get_peft_model
from torch.utils.data import DataLoader
from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding


class NewsModule(L.LightningModule):
    def __init__(self, name: str, total_step: int, lr: float = 1e-3):
        super().__init__()
        self.save_hyperparameters()
        base = AutoModelForSequenceClassification.from_pretrained(name, num_labels=4)
        cfg = AdaLoraConfig(
            task_type="SEQ_CLS",
            target_modules=["q_lin", "k_lin", "v_lin", "out_lin"],
            init_r=10,
            target_r=5,
            lora_alpha=20,
            tinit=int(total_step * 0.15),
            tfinal=int(total_step * 0.35),
            deltaT=10,
            total_step=total_step,
        )
        self.model = get_peft_model(base, cfg)
        self.model.train()
        self.updates = 0

    def training_step(self, batch, batch_idx):
        loss = self.model(**batch).loss
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch, batch_idx):
        out = self.model(**batch)
        acc = (out.logits.argmax(-1) == batch["labels"]).float().mean()
        self.log("val/acc", acc, prog_bar=True)

    def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure=None):
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        # zero_grad happens at the start of the next closure, so .grad is still here
        self.model.base_model.update_and_allocate(self.updates)
        self.updates += 1

    def configure_optimizers(self):
        return torch.optim.AdamW([p for p in self.parameters() if p.requires_grad], lr=self.hparams.lr)


def loaders(name, bs=32):
    tok = AutoTokenizer.from_pretrained(name)
    d = load_dataset("fancyzhx/ag_news")
    d = d.map(lambda b: tok(b["text"], truncation=True, max_length=128), batched=True, remove_columns=["text"])
    d = d.rename_column("label", "labels")
    c = DataCollatorWithPadding(tok)
    return (DataLoader(d["train"], bs, shuffle=True, collate_fn=c, num_workers=4),
            DataLoader(d["test"], 64, collate_fn=c, num_workers=4))


if __name__ == "__main__":
    NAME, EPOCHS = "distilbert-base-uncased", 2
    tr, va = loaders(NAME)
    module = NewsModule(NAME, total_step=len(tr) * EPOCHS)
    trainer = L.Trainer(max_epochs=EPOCHS, accelerator="gpu", devices=1, precision="bf16-mixed")
    trainer.fit(module, tr, va)
    module.model.save_pretrained("agnews-adalora")
