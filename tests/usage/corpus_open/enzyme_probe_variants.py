"""Compare adapters of ESM-2 on enzyme classes; one line per variant."""
import torch
from peft import AdaLoraConfig, LoraConfig, VeraConfig, get_peft_model
from torch import nn
from transformers import EsmModel

from enzymes import train_batches, macro_f1

TARGETS = ["query", "key", "value"]
VARIANTS = [("lora", 8), ("lora", 16), ("vera", 256), ("adalora", 2), ("adalora", 4), ("adalora", 8)]


def backbone(method, rank):
    esm = EsmModel.from_pretrained("facebook/esm2_t12_35M_UR50D")
    if method == "lora":
        config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=TARGETS)
    elif method == "vera":
        config = VeraConfig(r=rank, target_modules=TARGETS, vera_dropout=0.05)
    elif method == "adalora":
        # starts at init_r, ends at target_r
        config = AdaLoraConfig(
            init_r=12,
            target_r=rank,
            lora_alpha=24,
            tinit=200,
            tfinal=1000,
            deltaT=10,
            total_step=1500,
            target_modules=TARGETS,
        )
    else:
        raise ValueError(method)
    return get_peft_model(esm, config)


def train_variant(method, rank, epochs=5):
    esm = backbone(method, rank).cuda()
    head = nn.Linear(480, 7).cuda()
    weights = [p for p in esm.parameters() if p.requires_grad] + list(head.parameters())
    optimizer = torch.optim.AdamW(weights, lr=1e-4)
    for _ in range(epochs):
        for tokens, classes in train_batches(batch_size=8):
            hidden = esm(**tokens.to("cuda")).last_hidden_state[:, 0]
            loss = nn.functional.cross_entropy(head(hidden), classes.cuda())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return macro_f1(esm, head)


if __name__ == "__main__":
    for method, rank in VARIANTS:
        print(f"{method:8s} r={rank:<4d} F1={train_variant(method, rank):.3f}")
