import torch
from datasets import load_dataset
from peft import AdaLoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import DPOConfig, DPOTrainer


class RankCallback(TrainerCallback):
    """after optimizer.step(), before the gradients go"""

    def on_optimizer_step(self, args, state, control, model=None, **kwargs):
        model.base_model.update_and_allocate(state.global_step)
        if state.global_step % 50 == 0:
            print("budget", model.base_model.rankallocator.budget_schedule(state.global_step)[0])


def main(base="codellama/CodeLlama-7b-Instruct-hf", out="review-dpo"):
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.pad_token = tokenizer.eos_token
    model = AutoModelForCausalLM.from_pretrained(base, torch_dtype=torch.bfloat16)

    peft_config = AdaLoraConfig(
        task_type="CAUSAL_LM",
        init_r=12,
        target_r=4,
        tinit=100,
        tfinal=200,
        deltaT=10,
        lora_alpha=32,
        lora_dropout=0.05,
        target_modules=["q_proj", "v_proj", "o_proj"],
        total_step=1000,
    )
    args = DPOConfig(
        output_dir=out,
        beta=0.1,
        max_steps=600,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=8,
        learning_rate=5e-6,
        lr_scheduler_type="cosine",
        logging_steps=10,
        bf16=True,
    )
    trainer = DPOTrainer(
        model=model,
        ref_model=None,
        args=args,
        train_dataset=load_dataset("json", data_files="reviews_pairs.json", split="train"),
        processing_class=tokenizer,
        peft_config=peft_config,
        callbacks=[RankCallback()],
    )
    trainer.train()
    trainer.save_model(out)


if __name__ == "__main__":
    main()
