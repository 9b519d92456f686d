import pytest
from peft import AdaLoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, Trainer, TrainerCallback, TrainingArguments

from .common import TINY_OPT, tiny_corpus


class AllocateCallback(TrainerCallback):
    def on_optimizer_step(self, args, state, control, **kwargs):
        kwargs["model"].update_and_allocate(state.global_step)


@pytest.fixture
def config():
    return AdaLoraConfig(
        task_type="CAUSAL_LM",
        target_modules=["q_proj", "v_proj"],
        init_r=6,
        target_r=4,
        tinit=10,
        tfinal=20,
        deltaT=1,
        total_step=60,
        lora_alpha=12,
        lora_dropout=0.05,
    )


def train(config, folder):
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(TINY_OPT), config)
    trainer = Trainer(
        model=model,
        args=TrainingArguments(folder, max_steps=60, per_device_train_batch_size=2, report_to="none"),
        train_dataset=tiny_corpus(200),
    )
    trainer.add_callback(AllocateCallback())
    trainer.train()
    return model


def test_ranks_fall_to_the_target(config, tmp_path):
    model = train(config, tmp_path)
    pattern = model.peft_config["default"].rank_pattern
    assert sum(sum(kept) for kept in pattern.values()) == 4 * len(pattern)


def test_adapter_can_be_loaded_again(config, tmp_path):
    train(config, tmp_path).save_pretrained(tmp_path / "adapter")
    again = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(TINY_OPT), tmp_path / "adapter")
    assert again.peft_config["default"].rank_pattern
