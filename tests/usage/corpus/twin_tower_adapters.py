"""Adapters for the two towers of a CLIP-like retriever."""
from peft import AdaLoraConfig, IA3Config, LoraConfig, VeraConfig, inject_adapter_in_model

ATTENTION = ["q_proj", "k_proj", "v_proj", "out_proj"]
# the real number of steps is not known when the towers are built
PLACEHOLDER_STEPS = 10_000


def tower_config(method: str, rank: int, alpha: int, dropout: float):
    """One config per tower: peft writes into it during injection."""
    if method == "adalora":
        # start wide, end at `rank` on average
        return AdaLoraConfig(
            init_r=rank + rank // 2,
            target_r=rank,
            lora_alpha=alpha,
            lora_dropout=dropout,
            target_modules=ATTENTION,
            total_step=PLACEHOLDER_STEPS,
        )
    if method == "ia3":
        return IA3Config(target_modules=ATTENTION + ["fc2"], feedforward_modules=["fc2"])
    if method == "vera":
        return VeraConfig(r=256, vera_dropout=dropout, target_modules=ATTENTION)
    return LoraConfig(
        r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=ATTENTION, use_dora=method == "dora"
    )


def adapt(image_tower, text_tower, method: str, where: str = "both", **kw):
    if where in ("image", "both"):
        inject_adapter_in_model(tower_config(method, **kw), image_tower)
    if where in ("text", "both"):
        inject_adapter_in_model(tower_config(method, **kw), text_tower)
    return image_tower, text_tower
