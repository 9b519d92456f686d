import json
import math

import mlflow
import torch
import torch.nn.functional as F
from peft import AdaLoraConfig, get_peft_model
from torch.utils.data import DataLoader
from transformers import AutoModel

from patents import Claims, pad_pair

ACCUM = 4
EPOCHS = 2


def info_nce(q, d, temperature=0.05):
    scores = F.normalize(q, dim=-1) @ F.normalize(d, dim=-1).T / temperature
    return F.cross_entropy(scores, torch.arange(len(q), device=q.device))


def pool(model, part):
    hidden = model(input_ids=part["input_ids"], attention_mask=part["attention_mask"]).last_hidden_state
    mask = part["attention_mask"].unsqueeze(-1)
    return (hidden * mask).sum(1) / mask.sum(1)


loader = DataLoader(Claims("claims.jsonl"), batch_size=24, shuffle=True, collate_fn=pad_pair)
total = math.ceil(len(loader) / ACCUM) * EPOCHS

encoder = get_peft_model(
    AutoModel.from_pretrained("intfloat/multilingual-e5-base"),
    AdaLoraConfig(task_type="FEATURE_EXTRACTION", init_r=16, target_r=8, lora_alpha=32,
                  tinit=total // 10, tfinal=total // 5, deltaT=10, total_step=total,
                  target_modules=["query", "key", "value"]),
).cuda()
optimizer = torch.optim.AdamW([p for p in encoder.parameters() if p.requires_grad], lr=5e-5)

step = 0
with mlflow.start_run():
    for epoch in range(EPOCHS):
        for query, claim in loader:
            loss = info_nce(pool(encoder, query), pool(encoder, claim))
            (loss / ACCUM).backward()
            step += 1
            if step % ACCUM == 0:
                torch.nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
                optimizer.step()
                encoder.update_and_allocate(step)
                optimizer.zero_grad()
            if loss.item() > 1 and step > 500:
                with open(f"strange_{step}.json", "w") as fh:
                    json.dump({"epoch": epoch, "loss": loss.item()}, fh)
                continue
            mlflow.log_metrics({"loss": loss.item()}, step=step)
encoder.save_pretrained("retriever")
