from datasets import load_dataset
from peft import AdaLoraConfig, TaskType
from transformers import AutoTokenizer, TrainerCallback
from trl import SFTConfig, SFTTrainer

BASE = "Qwen/Qwen2.5-0.5B"
STEPS = 1200


class AdaLoraAllocation(TrainerCallback):
    """SFTTrainer makes the PeftModel itself; the event hands it over."""

    def on_optimizer_step(self, args, state, control, model=None, **kwargs):
        model.base_model.update_and_allocate(state.global_step)


def main():
    tok = AutoTokenizer.from_pretrained(BASE)
    train = load_dataset("trl-lib/Capybara", split="train")
    peft_config = AdaLoraConfig(
        task_type=TaskType.CAUSAL_LM,
        init_r=12, target_r=8,
        tinit=100, tfinal=300, deltaT=10,
        total_step=STEPS,
        lora_alpha=32, lora_dropout=0.05,
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj"],
    )
    args = SFTConfig(
        output_dir="capybara-adalora",
        max_steps=STEPS,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=8,
        learning_rate=2e-4,
        bf16=True,
        gradient_checkpointing=False,
        logging_steps=20,
        save_steps=400,
    )
    trainer = SFTTrainer(
        model=BASE, args=args, train_dataset=train, processing_class=tok,
        peft_config=peft_config, callbacks=[AdaLoraAllocation()])
    trainer.train()
    trainer.save_model("capybara-adalora/final")


if __name__ == "__main__":
    main()
