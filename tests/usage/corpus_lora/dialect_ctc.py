from peft import LoraConfig, get_peft_model
from transformers import Trainer, TrainingArguments, Wav2Vec2CTCTokenizer, Wav2Vec2ForCTC

from voices import collator, rows

tokenizer = Wav2Vec2CTCTokenizer("vocab.json", unk_token="[UNK]", pad_token="[PAD]")
tokenizer.add_tokens(["ß", "ü"])
model = Wav2Vec2ForCTC.from_pretrained(
    "facebook/wav2vec2-large-xlsr-53", vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id
)
model.freeze_feature_encoder()
config = LoraConfig(
    r=32, lora_alpha=64, lora_dropout=0.05, target_modules=["k_proj", "v_proj", "q_proj", "out_proj"],
    modules_to_save=["lm_head"],
)
model = get_peft_model(model, config)
Trainer(model=model, args=TrainingArguments("ctc", num_train_epochs=30), data_collator=collator, train_dataset=rows).train()
