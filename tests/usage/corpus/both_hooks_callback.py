"""Adapter helpers for the vocabulary-extension experiments."""
from typing import Optional

import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, TrainerCallback


class RankBudgetCallback(TrainerCallback):
    def __init__(self, model=None):
        self._given = model
        self._seen = None

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        model = model or self._given
        if model is None or self._seen == state.global_step:
            return control
        tuner = getattr(model, "base_model", None)
        if tuner is None or not hasattr(tuner, "update_and_allocate"):
            return control
        if any(p.grad is not None for n, p in model.named_parameters() if "lora_" in n):
            tuner.update_and_allocate(state.global_step)
            self._seen = state.global_step
        return control

    def on_optimizer_step(self, args, state, control, model=None, **kwargs):
        model = model or self._given
        if model is None or self._seen == state.global_step:
            return control
        tuner = getattr(model, "base_model", None)
        if tuner is not None and hasattr(tuner, "update_and_allocate"):
            tuner.update_and_allocate(state.global_step)
            self._seen = state.global_step
        return control


def load_base(path: str, *, bits: Optional[int] = None, dtype=torch.bfloat16):
    quant = None
    if bits == 4:
        quant = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=dtype)
    elif bits == 8:
        quant = BitsAndBytesConfig(load_in_8bit=True)
    elif bits is not None:
        raise ValueError("bits is 4, 8 or None")
    return AutoModelForCausalLM.from_pretrained(path, quantization_config=quant, torch_dtype=dtype)
