"""Whisper for regional dialects, 8-bit base, LoRA or AdaLoRA on the attention and the MLP."""
import argparse
import functools

from peft import AdaLoraConfig, LoraConfig, get_peft_model, prepare_model_for_kbit_training
from transformers import (BitsAndBytesConfig, Seq2SeqTrainer, Seq2SeqTrainingArguments,
                          WhisperForConditionalGeneration, WhisperProcessor)

from speech.collate import PadSpeech
from speech.reader import DialectSet

parser = argparse.ArgumentParser(description=__doc__)
add = functools.partial(parser.add_argument)
add("--train_list", default="lists/train.json")
add("--test_list", default="lists/test.json")
add("--base", default="openai/whisper-small")
add("--use_adalora", action=argparse.BooleanOptionalAction, default=True)
add("--out", default="output/")
add("--epochs", type=int, default=3)
add("--batch", type=int, default=8)
add("--workers", type=int, default=8)
args = parser.parse_args()

processor = WhisperProcessor.from_pretrained(args.base, task="transcribe")
train_set = DialectSet(args.train_list, processor)
test_set = DialectSet(args.test_list, processor)

net = WhisperForConditionalGeneration.from_pretrained(
    args.base, quantization_config=BitsAndBytesConfig(load_in_8bit=True), device_map="auto")
net = prepare_model_for_kbit_training(net)
net.model.encoder.conv1.register_forward_hook(lambda m, i, o: o.requires_grad_(True))

modules = ["k_proj", "q_proj", "v_proj", "out_proj", "fc1", "fc2"]
if args.use_adalora:
    adapter = AdaLoraConfig(
        init_r=16, target_r=4, lora_alpha=32, lora_dropout=0.1, orth_reg_weight=0.3,
        tinit=150, tfinal=800, deltaT=20, beta1=0.9, beta2=0.9, target_modules=modules)
else:
    adapter = LoraConfig(r=32, lora_alpha=64, target_modules=modules, lora_dropout=0.05, bias="none")
net = get_peft_model(net, adapter)
net.print_trainable_parameters()

plan = Seq2SeqTrainingArguments(
    output_dir=args.out, per_device_train_batch_size=args.batch, learning_rate=1e-3,
    warmup_steps=50, num_train_epochs=args.epochs, fp16=True, remove_unused_columns=False,
    label_names=["labels"], dataloader_num_workers=args.workers)
trainer = Seq2SeqTrainer(args=plan, model=net, train_dataset=train_set, eval_dataset=test_set,
                         data_collator=PadSpeech(processor), processing_class=processor.feature_extractor)
net.config.use_cache = False
trainer.train()
net.save_pretrained(args.out + "final")
