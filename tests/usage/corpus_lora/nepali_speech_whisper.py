from datasets import DatasetDict, load_dataset
from peft import LoraConfig, PeftModel, get_peft_model, prepare_model_for_kbit_training
from transformers import (
    BitsAndBytesConfig,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    TrainerCallback,
    WhisperForConditionalGeneration,
    WhisperProcessor,
)

name = "openai/whisper-large-v2"
processor = WhisperProcessor.from_pretrained(name, language="Nepali", task="transcribe")
model = WhisperForConditionalGeneration.from_pretrained(
    name, quantization_config=BitsAndBytesConfig(load_in_8bit=True), device_map="auto"
)
model.config.forced_decoder_ids = None
model = prepare_model_for_kbit_training(model)


def make_inputs_require_grad(module, input, output):
    output.requires_grad_(True)


model.model.encoder.conv1.register_forward_hook(make_inputs_require_grad)
config = LoraConfig(r=32, lora_alpha=64, target_modules=["q_proj", "v_proj"], lora_dropout=0.05, bias="none")
model = get_peft_model(model, config)


class SaveAdapter(TrainerCallback):
    def on_save(self, args, state, control, **kwargs):
        kwargs["model"].save_pretrained(f"{args.output_dir}/step-{state.global_step}")
        return control


args = Seq2SeqTrainingArguments(
    output_dir="whisper-ne", per_device_train_batch_size=8, learning_rate=1e-3, warmup_steps=50,
    num_train_epochs=3, fp16=True, remove_unused_columns=False, label_names=["labels"],
)
voices = load_dataset("mozilla-foundation/common_voice_11_0", "ne-NP")
trainer = Seq2SeqTrainer(args=args, model=model, train_dataset=voices["train"], callbacks=[SaveAdapter])
model.config.use_cache = False
trainer.train()
