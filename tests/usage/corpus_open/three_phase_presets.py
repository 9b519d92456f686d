"""Presets for short, medium and long runs of the summariser."""
from peft import AdaLoraConfig

MEDIUM = dict(
    init_r=16,
    target_r=8,
    lora_alpha=32,
    tinit=100,
    tfinal=250,
    deltaT=10,
    total_step=1000,
)

CAUTIOUS = dict(
    init_r=16,
    target_r=8,
    lora_alpha=32,
    tinit=500,  # half of the run to warm up
    tfinal=500,  # half of the run to fine-tune the pruned adapter
    deltaT=10,
    total_step=1000,
)


def preset(name: str) -> AdaLoraConfig:
    if name == "medium":
        return AdaLoraConfig(task_type="SEQ_2_SEQ_LM", **MEDIUM)
    if name == "cautious":
        return AdaLoraConfig(task_type="SEQ_2_SEQ_LM", **CAUTIOUS)
    raise KeyError(name)
