from peft import AdaLoraConfig, get_peft_model

TARGETS = {
    "VisionTransformer": ["attn.qkv", "attn.proj"],
    "ViTModel": ["attention.attention.query", "attention.attention.value"],
    "Swinv2Model": ["attention.self.query", "attention.self.value"],
}


class AdaptiveRankMixin:
    """Mix into a LightningModule that has ``self.encoder``.

    ``update_and_allocate(global_step)`` has to be called at each optimiser
    step, else every layer keeps its first rank.
    """

    def __init__(
        self,
        rank,  # average rank at the end
        start_rank,  # rank at the start
        alpha,
        dropout,
        orth_weight,
        warm_steps,
        interval,
        *args,
        **kwargs,
    ):
        config = AdaLoraConfig(
            target_r=rank,
            init_r=start_rank,
            lora_alpha=alpha,
            lora_dropout=dropout,
            target_modules=TARGETS[type(self.encoder).__name__],
            orth_reg_weight=orth_weight,
            tinit=warm_steps,
            deltaT=interval,
        )
        self.encoder = get_peft_model(self.encoder, config)
        for name, p in self.encoder.named_parameters():
            p.requires_grad = any(s in name for s in ("head", "classifier", "lora"))

    def on_train_start(self):
        steps = int(self.trainer.estimated_stepping_batches)
        for config in self.encoder.peft_config.values():
            config.total_step = steps

    def on_before_optimizer_step(self, optimizer):
        if hasattr(self.encoder, "base_model"):
            self.encoder.base_model.update_and_allocate(self.global_step)
