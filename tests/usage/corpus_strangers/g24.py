import random

import numpy as np
import torch
from datasets import load_dataset
from peft import AdaLoraConfig, get_peft_model
from torch.utils.data import DataLoader
from torch.utils.tensorboard import SummaryWriter
from transformers import AutoModelForQuestionAnswering, AutoTokenizer, default_data_collator

SEED, EPOCHS, BS, LR, GAMMA = 7, 3, 16, 1e-3, 0.5
random.seed(SEED); np.random.seed(SEED); torch.manual_seed(SEED)
tok = AutoTokenizer.from_pretrained("bert-base-uncased")


def features(b):
    enc = tok([q.strip() for q in b["question"]], b["context"], truncation="only_second", max_length=384,
              padding="max_length", return_offsets_mapping=True)
    starts, ends = [], []
    for i, off in enumerate(enc.pop("offset_mapping")):
        a = b["answers"][i]
        s, e = a["answer_start"][0], a["answer_start"][0] + len(a["text"][0])
        ids = enc.sequence_ids(i)
        inside = [j for j, t in enumerate(ids) if t == 1 and off[j][0] < e and off[j][1] > s]
        starts.append(inside[0] if inside else 0)
        ends.append(inside[-1] if inside else 0)
    enc["start_positions"], enc["end_positions"] = starts, ends
    return enc


squad = load_dataset("squad", split="train")
train = squad.map(features, batched=True, remove_columns=squad.column_names)
loader = DataLoader(train, BS, shuffle=True, collate_fn=default_data_collator)
total = len(loader) * EPOCHS

cfg = AdaLoraConfig(task_type="QUESTION_ANS", init_r=12, target_r=8, tinit=1000, tfinal=5000, deltaT=50,
                    orth_reg_weight=GAMMA, total_step=total, target_modules=["query", "key", "value"])
model = get_peft_model(AutoModelForQuestionAnswering.from_pretrained("bert-base-uncased"), cfg).cuda()
opt = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=LR)
writer = SummaryWriter("tb/squad")


def orthogonality(m):
    reg, n = 0.0, 0
    for name, p in m.named_parameters():
        if "lora_A" in name or "lora_B" in name:
            cov = p @ p.T if "lora_A" in name else p.T @ p
            eye = torch.eye(cov.size(0), device=cov.device)
            reg = reg + torch.norm(cov - eye, p="fro")
            n += 1
    return reg / n


step = 0
for epoch in range(EPOCHS):
    model.train()
    for batch in loader:
        batch = {k: v.cuda() for k, v in batch.items()}
        out = model(**batch)
        reg = orthogonality(model)
        loss = out.loss + GAMMA * reg
        loss.backward()
        opt.step()
        step += 1
        model.base_model.update_and_allocate(step)
        opt.zero_grad()
        if step % 20 == 0:
            writer.add_scalar("loss", loss.item(), step)
            writer.add_scalar("orth", reg.item(), step)
    model.save_pretrained(f"squad/e{epoch}")
writer.close()
