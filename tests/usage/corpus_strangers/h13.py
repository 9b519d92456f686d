from dataclasses import dataclass, field

from datasets import load_dataset
from peft import AdaLoraConfig
from transformers import HfArgumentParser, TrainerCallback
from trl import SFTConfig, SFTTrainer


@dataclass
class ScriptArgs:
    model_id: str = "meta-llama/Llama-3.2-1B"
    dataset: str = "trl-lib/Capybara"
    steps: int = 1200
    targets: list[str] = field(default_factory=lambda: ["q_proj", "v_proj", "o_proj"])


class AllocateRanks(TrainerCallback):
    """SFTTrainer wraps the model itself; the wrapped model arrives through the callback's kwargs."""

    def on_optimizer_step(self, args, state, control, **kwargs):
        m = kwargs["model"]
        m = getattr(m, "module", m)
        m.base_model.update_and_allocate(state.global_step)


def main():
    (sa,) = HfArgumentParser(ScriptArgs).parse_args_into_dataclasses()
    peft_config = AdaLoraConfig(
        task_type="CAUSAL_LM",
        init_r=16,
        target_r=8,
        lora_alpha=32,
        tinit=sa.steps // 10,
        tfinal=sa.steps // 3,
        deltaT=10,
        total_step=sa.steps,
        target_modules=sa.targets,
    )
    trainer = SFTTrainer(
        model=sa.model_id,
        train_dataset=load_dataset(sa.dataset, split="train"),
        args=SFTConfig(
            output_dir="sft-adalora",
            max_steps=sa.steps,
            per_device_train_batch_size=2,
            gradient_accumulation_steps=8,
            learning_rate=5e-4,
            bf16=True,
            logging_steps=10,
        ),
        peft_config=peft_config,
        callbacks=[AllocateRanks()],
    )
    trainer.train()
    trainer.save_model("sft-adalora/final")


if __name__ == "__main__":
    main()
