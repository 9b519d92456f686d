"""Lightning with manual optimization, so that the order step -> allocate -> zero_grad is plain to see."""
import pytorch_lightning as pl
import torch
from datasets import load_dataset
from peft import AdaLoraConfig, get_peft_model
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM, AutoTokenizer, DataCollatorForLanguageModeling

MODEL = "facebook/opt-125m"
ACC = 4


class ManualAda(pl.LightningModule):
    def __init__(self, total):
        super().__init__()
        self.automatic_optimization = False
        cfg = AdaLoraConfig(task_type="CAUSAL_LM", init_r=12, target_r=8, tinit=total // 10, tfinal=total // 3,
                            deltaT=2, total_step=total, target_modules=["q_proj", "k_proj", "v_proj", "out_proj"])
        self.lm = get_peft_model(AutoModelForCausalLM.from_pretrained(MODEL), cfg)
        self.updates = 0

    def training_step(self, batch, idx):
        opt = self.optimizers()
        sched = self.lr_schedulers()
        loss = self.lm(**batch).loss
        self.manual_backward(loss / ACC)
        self.log("loss", loss, prog_bar=True)
        if (idx + 1) % ACC == 0:
            self.clip_gradients(opt, gradient_clip_val=1.0, gradient_clip_algorithm="norm")
            opt.step()
            sched.step()
            self.updates += 1
            self.lm.base_model.update_and_allocate(self.updates)
            opt.zero_grad()

    def validation_step(self, batch, idx):
        self.log("val_loss", self.lm(**batch).loss, prog_bar=True)

    def configure_optimizers(self):
        opt = torch.optim.AdamW([p for p in self.parameters() if p.requires_grad], lr=1e-3)
        return [opt], [torch.optim.lr_scheduler.LambdaLR(opt, lambda s: min(1.0, (s + 1) / 50))]


def data():
    tok = AutoTokenizer.from_pretrained(MODEL)
    ds = load_dataset("imdb")
    keep = {"train": ds["train"].shuffle(seed=0).select(range(16000)), "val": ds["test"].shuffle(seed=0).select(range(1000))}
    coll = DataCollatorForLanguageModeling(tok, mlm=False)
    out = {}
    for k, d in keep.items():
        d = d.map(lambda b: tok(b["text"], truncation=True, max_length=256), batched=True, remove_columns=["text", "label"])
        out[k] = DataLoader(d, 8, shuffle=k == "train", collate_fn=coll, num_workers=2)
    return out["train"], out["val"]


if __name__ == "__main__":
    pl.seed_everything(0)
    train, val = data()
    epochs = 3
    total = len(train) // ACC * epochs
    m = ManualAda(total)
    pl.Trainer(max_epochs=epochs, accelerator="gpu", devices=1).fit(m, train, val)
    print(m.updates, total)
    m.lm.save_pretrained("opt-imdb")
