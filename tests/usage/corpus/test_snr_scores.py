import pytest
import torch
from peft import AdaLoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM


def tiny_model(**extra):
    torch.manual_seed(0)
    base = LlamaForCausalLM(
        LlamaConfig(vocab_size=31, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2)
    )
    settings = {
        "target_modules": ["q_proj", "v_proj"],
        "init_r": 12,
        "target_r": 4,
        "tinit": 0,
        "tfinal": 10,
        "deltaT": 1,
        "total_step": 100,
    }
    settings.update(extra)
    return get_peft_model(base, AdaLoraConfig(**settings))


def make_steps(model, count):
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for step in range(count):
        tokens = torch.randint(0, 31, (2, 7))
        model(input_ids=tokens, labels=tokens).loss.backward()
        optimizer.step()
        model.base_model.update_and_allocate(step)
        optimizer.zero_grad()


class TestScores:
    def test_scores_are_filled_after_two_steps(self):
        model = tiny_model()
        make_steps(model, 2)
        assert model.base_model.rankallocator.exp_avg_ipt

    @pytest.mark.parametrize("beta", [0.5, 0.85])
    def test_scores_are_finite(self, beta):
        model = tiny_model(beta1=beta, beta2=beta)
        make_steps(model, 3)
        scores = model.base_model.rankallocator.exp_avg_ipt
        assert all(torch.isfinite(s).all() for s in scores.values())
