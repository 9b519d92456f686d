"""
Asymmetric retrieval: frozen passage encoder, question encoder with AdaLoRA, a small trainable projection.
Three modules, one of them PEFT; the contrastive loss is made here, so the orthogonality term is added by hand.
"""
import argparse

import torch
import torch.nn as nn
import torch.nn.functional as F
from datasets import load_dataset
from peft import AdaLoraConfig, TaskType, get_peft_model
from torch.utils.data import DataLoader
from transformers import AutoModel, AutoTokenizer


def mean_pool(h, mask):
    m = mask.unsqueeze(-1).float()
    return (h * m).sum(1) / m.sum(1).clamp(min=1e-6)


class Retriever(nn.Module):
    def __init__(self, name, adalora):
        super().__init__()
        self.passage = AutoModel.from_pretrained(name).requires_grad_(False).eval()
        self.question = get_peft_model(AutoModel.from_pretrained(name), adalora)
        self.proj = nn.Linear(self.passage.config.hidden_size, self.passage.config.hidden_size, bias=False)
        self.orth_weight = adalora.orth_reg_weight

    def train(self, mode=True):
        super().train(mode)
        self.passage.eval()
        return self

    def encode_passages(self, enc):
        with torch.no_grad():
            return F.normalize(mean_pool(self.passage(**enc).last_hidden_state, enc["attention_mask"]), dim=-1)

    def encode_questions(self, enc):
        h = self.question(**enc).last_hidden_state
        return F.normalize(self.proj(mean_pool(h, enc["attention_mask"])), dim=-1)

    def orthogonality(self):
        vals = []
        for n, p in self.question.named_parameters():
            if "lora_A" in n or "lora_B" in n:
                g = p @ p.T if "lora_A" in n else p.T @ p
                vals.append((g - torch.eye(len(g), device=g.device)).norm())
        return sum(vals) / len(vals)

    def loss(self, q, p):
        sim = self.encode_questions(q) @ self.encode_passages(p).T / 0.05
        return F.cross_entropy(sim, torch.arange(len(sim), device=sim.device)) + self.orth_weight * self.orthogonality()


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--name", default="bert-base-uncased")
    ap.add_argument("--steps", type=int, default=8000)
    ap.add_argument("--bs", type=int, default=64)
    a = ap.parse_args()

    tok = AutoTokenizer.from_pretrained(a.name)
    ds = load_dataset("sentence-transformers/natural-questions", split="train")

    def coll(rows):
        kw = dict(padding=True, truncation=True, return_tensors="pt")
        return tok([r["query"] for r in rows], max_length=32, **kw), tok([r["answer"] for r in rows], max_length=192, **kw)

    loader = DataLoader(ds, a.bs, shuffle=True, drop_last=True, collate_fn=coll, num_workers=4)
    cfg = AdaLoraConfig(task_type=TaskType.FEATURE_EXTRACTION, init_r=12, target_r=6, tinit=a.steps // 10,
                        tfinal=a.steps // 4, deltaT=20, orth_reg_weight=0.1, total_step=a.steps,
                        target_modules=["query", "value"])
    net = Retriever(a.name, cfg).cuda().train()
    opt = torch.optim.AdamW([
        {"params": [p for p in net.question.parameters() if p.requires_grad], "lr": 5e-4},
        {"params": net.proj.parameters(), "lr": 1e-4},
    ])
    step = 0
    while step < a.steps:
        for q, p in loader:
            loss = net.loss(q.to("cuda"), p.to("cuda"))
            loss.backward()
            opt.step()
            step += 1
            net.question.base_model.update_and_allocate(step)
            opt.zero_grad()
            if step % 100 == 0:
                print(step, round(loss.item(), 4))
            if step == a.steps:
                break
    net.question.save_pretrained("retriever/question")
    torch.save(net.proj.state_dict(), "retriever/proj.pt")


if __name__ == "__main__":
    main()
