import pytest
import torch
from peft import AdaLoraConfig, get_peft_model
from torch import nn
from transformers.modeling_outputs import SequenceClassifierOutput


class TwoLinears(nn.Module):
    def __init__(self):
        super().__init__()
        self.q_proj = nn.Linear(24, 24)
        self.v_proj = nn.Linear(24, 24)

    def forward(self, x):
        y = self.v_proj(torch.relu(self.q_proj(x)))
        return SequenceClassifierOutput(loss=y.square().mean(), logits=y)


def wrapped(**more):
    settings = {
        "target_modules": ["q_proj", "v_proj"],
        "init_r": 12,
        "target_r": 4,
        "lora_alpha": 12,
        "tinit": 5,
        "tfinal": 10,
        "deltaT": 1,
        "total_step": 60,
    }
    settings.update(more)
    return get_peft_model(TwoLinears(), AdaLoraConfig(**settings))


def go(model, steps):
    opt = torch.optim.AdamW(model.parameters(), lr=0.05)
    for step in range(steps):
        model(torch.randn(3, 24)).loss.backward()
        opt.step()
        model.base_model.update_and_allocate(step)
        opt.zero_grad()


def test_scores_exist_after_one_step():
    torch.manual_seed(3)
    model = wrapped()
    go(model, 1)
    assert model.base_model.rankallocator.ipt


@pytest.mark.parametrize("target", [2, 4, 6])
def test_mean_rank(target):
    torch.manual_seed(3)
    model = wrapped(target_r=target)
    go(model, 60)
    kept = [sum(row) for row in model.peft_config["default"].rank_pattern.values()]
    assert sum(kept) == target * len(kept)
