"""An ensemble of two classifiers, each a model of its own with its own AdaLoRA schedule and counter."""
import torch
from datasets import load_dataset
from peft import AdaLoraConfig, get_peft_model
from torch.utils.data import DataLoader
from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding

MEMBERS = {
    "bert-base-uncased": dict(targets=["query", "value"], epochs=3, lr=6e-4),
    "distilbert-base-uncased": dict(targets=["q_lin", "k_lin", "v_lin"], epochs=5, lr=8e-4),
}
raw = load_dataset("imdb")


class Member:
    def __init__(self, name, targets, epochs, lr):
        self.name, self.epochs = name, epochs
        self.tok = AutoTokenizer.from_pretrained(name)
        self.train_loader = self._loader("train", 16, True)
        total = epochs * len(self.train_loader)
        net = AutoModelForSequenceClassification.from_pretrained(name, num_labels=2)
        self.model = get_peft_model(net, AdaLoraConfig(
            task_type="SEQ_CLS", init_r=12, target_r=8, tinit=total // 12, tfinal=total // 4, deltaT=10,
            total_step=total, target_modules=targets)).cuda()
        self.opt = torch.optim.AdamW([p for p in self.model.parameters() if p.requires_grad], lr=lr)
        self.step = 0

    def _loader(self, split, bs, shuffle):
        d = raw[split].map(lambda b: self.tok(b["text"], truncation=True, max_length=256), batched=True,
                           remove_columns=["text"]).rename_column("label", "labels")
        return DataLoader(d, bs, shuffle=shuffle, collate_fn=DataCollatorWithPadding(self.tok))

    def _update(self, batch):
        loss = self.model(**batch.to("cuda")).loss
        loss.backward()
        self.opt.step()
        self.step += 1
        self.model.base_model.update_and_allocate(self.step)
        self.opt.zero_grad()
        return loss.item()

    def train(self):
        self.model.train()
        for e in range(self.epochs):
            losses = [self._update(b) for b in self.train_loader]
            print(f"{self.name} epoch {e} {sum(losses) / len(losses):.4f}")
        self.model.save_pretrained(f"ensemble/{self.name}")

    @torch.no_grad()
    def predict(self):
        self.model.eval()
        out = []
        for b in self._loader("test", 64, False):
            b = b.to("cuda")
            b.pop("labels")
            out.append(self.model(**b).logits.softmax(-1).cpu())
        return torch.cat(out)


members = [Member(n, **kw) for n, kw in MEMBERS.items()]
for m in members:
    m.train()

probs = torch.stack([m.predict() for m in members])
gold = torch.tensor(raw["test"]["label"])
for m, p in zip(members, probs):
    print(m.name, (p.argmax(-1) == gold).float().mean().item())
print("ensemble", (probs.mean(0).argmax(-1) == gold).float().mean().item())
