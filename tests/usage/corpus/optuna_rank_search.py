import optuna
from peft import AdaLoraConfig, TaskType, get_peft_model
from transformers import AutoModelForSequenceClassification, Trainer, TrainerCallback, TrainingArguments

from news_data import dev_set, train_set

STEPS = 1500


def tuner_of(model):
    for attr in ("module", "base_model"):
        model = getattr(model, attr, model)
    return model


class RankCallback(TrainerCallback):
    def on_step_begin(self, args, state, control, model=None, **kwargs):
        if model is None:
            return control
        tuner = tuner_of(model)
        if hasattr(tuner, "update_and_allocate"):
            try:
                tuner.update_and_allocate(state.global_step)
            except Exception as exc:
                if state.global_step % 200 == 0:
                    print("rank update failed:", exc)
        return control


class RankTrainer(Trainer):
    def training_step(self, model, inputs, num_items_in_batch=None):
        loss = super().training_step(model, inputs, num_items_in_batch)
        tuner = tuner_of(model)
        if hasattr(tuner, "update_and_allocate"):
            tuner.update_and_allocate(self.state.global_step)
        return loss


def objective(trial):
    model = AutoModelForSequenceClassification.from_pretrained("hfl/chinese-roberta-wwm-ext", num_labels=14)
    start = trial.suggest_int("init_r", 10, 16)
    config = AdaLoraConfig(
        task_type=TaskType.SEQ_CLS,
        target_modules=["query", "key", "value"],
        init_r=start,
        target_r=trial.suggest_int("target_r", 2, 8),
        lora_alpha=32,
        tinit=150,
        tfinal=300,
        deltaT=10,
        total_step=STEPS,
    )
    trainer = RankTrainer(
        model=get_peft_model(model, config),
        args=TrainingArguments(
            output_dir=f"trials/{trial.number}",
            max_steps=STEPS,
            learning_rate=trial.suggest_float("lr", 1e-4, 2e-3, log=True),
        ),
        train_dataset=train_set(),
        eval_dataset=dev_set(),
        callbacks=[RankCallback()],
    )
    trainer.train()
    return trainer.evaluate()["eval_loss"]


if __name__ == "__main__":
    study = optuna.create_study(direction="minimize")
    study.optimize(objective, n_trials=20)
