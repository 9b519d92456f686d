"""Fine-tune a small chat model on discharge letters with TRL."""
import math
from dataclasses import dataclass

from datasets import load_dataset
from peft import AdaLoraConfig, TaskType, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, HfArgumentParser, TrainerCallback
from trl import SFTConfig, SFTTrainer


@dataclass
class ScriptArgs:
    base: str = "Qwen/Qwen2.5-0.5B"
    data: str = "letters.jsonl"
    epochs: int = 3
    batch: int = 4
    accum: int = 8
    out: str = "runs/letters"


class RankBudget(TrainerCallback):
    """Hand the step to AdaLoRA while the gradients are still there."""

    def on_optimizer_step(self, args, state, control, model=None, **kwargs):
        model.base_model.update_and_allocate(state.global_step)


def main():
    (cli,) = HfArgumentParser(ScriptArgs).parse_args_into_dataclasses()
    tok = AutoTokenizer.from_pretrained(cli.base)
    base = AutoModelForCausalLM.from_pretrained(cli.base)
    train = load_dataset("json", data_files=cli.data, split="train")

    batches = math.ceil(len(train) / cli.batch)
    total = math.ceil(batches / cli.accum) * cli.epochs
    config = AdaLoraConfig(
        task_type=TaskType.CAUSAL_LM,
        init_r=16,
        target_r=8,
        tinit=int(0.1 * total),
        tfinal=int(0.3 * total),
        deltaT=10,
        total_step=total,
        lora_alpha=32,
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj"],
    )
    model = get_peft_model(base, config)

    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(
            output_dir=cli.out,
            num_train_epochs=cli.epochs,
            per_device_train_batch_size=cli.batch,
            gradient_accumulation_steps=cli.accum,
        ),
        train_dataset=train,
        processing_class=tok,
        callbacks=[RankBudget()],
    )
    trainer.train()
    trainer.save_model()


if __name__ == "__main__":
    main()
