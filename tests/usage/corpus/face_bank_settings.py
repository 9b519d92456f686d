"""Choices of the face bank experiments."""
from peft import AdaLoraConfig, IA3Config, LoraConfig, PromptTuningConfig

from facebank.losses import ArcMargin, TripletLoss

ADAPTERS = {
    "lora": LoraConfig(
        r=14,
        lora_alpha=32,
        lora_dropout=0.1,
        target_modules=["query", "value"],
    ),
    "adalora": AdaLoraConfig(
        init_r=20,
        target_r=14,
        lora_alpha=32,
        lora_dropout=0.1,
        target_modules=["query", "value"],
    ),
    "ia3": IA3Config(
        target_modules=["query", "value", "output"],
        feedforward_modules=["output"],
    ),
    "prompt": PromptTuningConfig(num_virtual_tokens=20, task_type="FEATURE_EXTRACTION"),
}

LOSSES = {"arc": ArcMargin, "triplet": TripletLoss}
