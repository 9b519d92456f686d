import random
from itertools import product

import torch
from peft import AdaLoraConfig, TaskType, get_peft_model
from sentence_transformers import SentenceTransformer
from torch.nn.functional import cross_entropy, normalize
from torch.utils.data import DataLoader

from filings import FilingPairs, collate

EPOCHS = 2
ACCUMULATE = 4


def in_batch_loss(questions, passages, temperature=0.05):
    scores = normalize(questions) @ normalize(passages).T / temperature
    return cross_entropy(scores, torch.arange(len(scores), device=scores.device))


def train(model, loader, optimizer):
    encoder = model.model._first_module().auto_model
    micro, updates = 0, 0
    for epoch in range(EPOCHS):
        model.train()
        for pair in loader:
            q = encoder(**pair["question"].to("cuda")).last_hidden_state.mean(1)
            p = encoder(**random.choice(pair["passages"]).to("cuda")).last_hidden_state.mean(1)
            loss = in_batch_loss(q, p) / ACCUMULATE
            loss.backward()
            micro += 1
            if micro % ACCUMULATE == 0:
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                model.update_and_allocate(updates)
                optimizer.step()
                optimizer.zero_grad()
                updates += 1


for lr, dropout in product([1e-4, 3e-4], [0.1, 0.3]):
    loader = DataLoader(FilingPairs("train"), batch_size=4, collate_fn=collate, pin_memory=True)
    config = AdaLoraConfig(
        peft_type="ADALORA",
        task_type=TaskType.FEATURE_EXTRACTION,
        target_modules=["q", "v"],
        init_r=64,
        target_r=32,
        tinit=100,
        tfinal=1000,
        deltaT=20,
        total_step=EPOCHS * len(loader),
        lora_alpha=128,
        lora_dropout=dropout,
        use_rslora=True,
    )
    mpnet = get_peft_model(SentenceTransformer("sentence-transformers/all-mpnet-base-v2"), config)
    train(mpnet, loader, torch.optim.AdamW(mpnet.parameters(), lr=lr, weight_decay=0.01))
    mpnet.save_pretrained(f"filings-{lr}-{dropout}")
