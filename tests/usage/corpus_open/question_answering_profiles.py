"""Profiles of the question answering experiments."""
import sys

from peft import AdaLoraConfig, TaskType

PROFILES = {
    "thin": {
        "init_r": 6,
        "target_r": 3,
        "lora_alpha": 12,
        "tinit": 100,
        "tfinal": 400,
        "deltaT": 10,
        "total_step": 2000,
        "target_modules": ["q_proj", "v_proj"],
    },
    "wide": {
        "init_r": 24,
        "target_r": 12,
        "lora_alpha": 48,
        "tinit": 100,
        "tfinal": 400,
        "deltaT": 10,
        "total_step": 2000,
        "target_modules": "q_proj",
    },
}


def thin() -> AdaLoraConfig:
    return AdaLoraConfig(task_type=TaskType.QUESTION_ANS, **PROFILES["thin"])


def wide() -> AdaLoraConfig:
    return AdaLoraConfig(task_type=TaskType.QUESTION_ANS, **PROFILES["wide"])


if __name__ == "__main__":
    chosen = thin() if "--thin" in sys.argv else wide()
    chosen.save_pretrained("profile")
