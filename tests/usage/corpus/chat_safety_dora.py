import torch
from datasets import load_dataset
from peft import AdaLoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import SFTConfig, SFTTrainer

MAX_STEPS = 900


class RankStep(TrainerCallback):
    def on_optimizer_step(self, args, state, control, model=None, **kwargs):
        tuner = getattr(model, "base_model", model)
        tuner.update_and_allocate(state.global_step)


def adapter_config():
    return AdaLoraConfig(
        task_type="CAUSAL_LM",
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj"],
        bias="none",
        lora_alpha=32,
        lora_dropout=0.05,
        use_dora=True,
        init_r=16,
        target_r=8,
        tinit=90,
        tfinal=180,
        deltaT=8,
        beta1=0.85,
        beta2=0.85,
        orth_reg_weight=0.5,
        total_step=MAX_STEPS,
    )


def main():
    name = "Qwen/Qwen2.5-0.5B-Instruct"
    tokenizer = AutoTokenizer.from_pretrained(name)
    model = AutoModelForCausalLM.from_pretrained(name, torch_dtype=torch.bfloat16)
    chats = load_dataset("json", data_files="safe_chats.jsonl", split="train")
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig("safe-chat", max_steps=MAX_STEPS, per_device_train_batch_size=4, bf16=True),
        train_dataset=chats,
        processing_class=tokenizer,
        peft_config=adapter_config(),
        callbacks=[RankStep()],
    )
    trainer.train()
    trainer.save_model("safe-chat/adapter")


if __name__ == "__main__":
    main()
