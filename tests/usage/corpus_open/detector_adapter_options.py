from peft import AdaLoraConfig, LoHaConfig, LoraConfig


def detector_config(kind: str, modules: list[str], *, rank: int, total_step: int = 0, exclude: list[str] | None = None):
    """Adapter configuration for the detector's linear layers."""
    common = {
        "target_modules": modules,
        "exclude_modules": exclude,
    }
    kind = kind.lower()
    if kind == "loha":
        return LoHaConfig(r=rank, alpha=2 * rank, **common)
    if kind == "dora":
        return LoraConfig(r=rank, lora_alpha=2 * rank, use_dora=True, **common)
    if kind == "adalora":
        if total_step <= 0:
            raise ValueError("AdaLoRA needs total_step > 0; the trainer fills it in")
        return AdaLoraConfig(
            init_r=rank + 4,
            target_r=rank,
            lora_alpha=2 * rank,
            tinit=total_step // 10,
            tfinal=total_step // 5,
            total_step=total_step,
            use_dora=True,
            **common,
        )
    return LoraConfig(r=rank, lora_alpha=2 * rank, **common)
