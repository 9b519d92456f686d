from dataclasses import dataclass, field
from typing import List

from peft import AdaLoraConfig, LoraConfig, get_peft_model


@dataclass
class SlotSettings:
    """How many slots every matrix gets, and how long the run is."""

    capacity: int = 16
    alpha: int = 32
    interval: int = 10
    total_updates: int = 2000
    targets: List[str] = field(default_factory=lambda: ["q_proj", "v_proj"])


def freeze(model):
    for weight in model.parameters():
        weight.requires_grad = False
    model.gradient_checkpointing_enable()
    model.enable_input_require_grads()


def with_slots(model, own_allocator: bool = True):
    settings = SlotSettings()
    freeze(model)
    if own_allocator:
        config = AdaLoraConfig(
            init_r=settings.capacity,
            target_r=settings.capacity,
            tinit=200,
            tfinal=300,
            deltaT=settings.interval,
            lora_alpha=settings.alpha,
            target_modules=settings.targets,
            task_type="FEATURE_EXTRACTION",
            total_step=settings.total_updates,
        )
    else:
        config = LoraConfig(r=settings.capacity, lora_alpha=settings.alpha, target_modules=settings.targets)
    return get_peft_model(model, config)
