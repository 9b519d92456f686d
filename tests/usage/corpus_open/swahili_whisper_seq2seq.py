"""Fine-tune whisper-small on Common Voice Swahili."""
from pathlib import Path

from peft import AdaLoraConfig, get_peft_model
from transformers import (
    EarlyStoppingCallback,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    WhisperForConditionalGeneration,
    WhisperProcessor,
)

from asr_data import SpeechCollator, load_splits, word_error_rate

OUT = Path("runs/whisper-sw")
MAX_STEPS = 4000

processor = WhisperProcessor.from_pretrained("openai/whisper-small", language="sw", task="transcribe")
whisper = WhisperForConditionalGeneration.from_pretrained("openai/whisper-small")
whisper.config.use_cache = False

peft_config = AdaLoraConfig(
    init_r=12,
    target_r=4,
    tinit=400,
    tfinal=800,
    deltaT=20,
    lora_alpha=32,
    lora_dropout=0.05,
    target_modules=["q_proj", "v_proj"],
    total_step=MAX_STEPS,
)
whisper = get_peft_model(whisper, peft_config)


# ── rank updates ────────────────────────────────────────────────
# Nothing in Trainer moves the ranks by itself, so do it after every step.
class RankUpdate(TrainerCallback):
    def on_step_end(self, args, state: TrainerState, control: TrainerControl, model=None, **kwargs) -> None:
        if hasattr(model, "base_model"):
            model.base_model.update_and_allocate(state.global_step)


train_ds, dev_ds = load_splits("sw", processor)
args = Seq2SeqTrainingArguments(
    output_dir=str(OUT),
    per_device_train_batch_size=8,
    gradient_accumulation_steps=2,
    max_steps=MAX_STEPS,
    fp16=True,
    eval_strategy="steps",
    eval_steps=500,
    load_best_model_at_end=True,
    metric_for_best_model="wer",
)
trainer = Seq2SeqTrainer(
    model=whisper,
    args=args,
    train_dataset=train_ds,
    eval_dataset=dev_ds,
    data_collator=SpeechCollator(processor),
    compute_metrics=word_error_rate,
    callbacks=[EarlyStoppingCallback(early_stopping_patience=4), RankUpdate()],
)
trainer.train()
whisper.save_pretrained(OUT / "adapter")
