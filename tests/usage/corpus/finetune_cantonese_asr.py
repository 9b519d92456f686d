import argparse
import functools
import os

from peft import AdaLoraConfig, LoraConfig, get_peft_model, prepare_model_for_kbit_training
from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments, WhisperForConditionalGeneration, WhisperProcessor

from tools.callbacks import KeepAdapterCallback
from tools.data import AudioDataset, PadCollator
from tools.misc import add_arguments, show_arguments

parser = argparse.ArgumentParser(description=__doc__)
arg = functools.partial(add_arguments, argparser=parser)
arg("train_list", type=str, default="dataset/train.json", help="list of the training clips")
arg("base", type=str, default="openai/whisper-tiny", help="base model")
arg("output", type=str, default="output/", help="where to save")
arg("adaptive", type=bool, default=True, help="AdaLoRA in place of LoRA")
arg("epochs", type=int, default=3, help="number of epochs")
arg("batch", type=int, default=8, help="clips per device")
arg("accum", type=int, default=1, help="accumulation")
args = parser.parse_args()
show_arguments(args)


def main():
    processor = WhisperProcessor.from_pretrained(args.base, language="yue")
    train_dataset = AudioDataset(args.train_list, processor=processor)
    model = WhisperForConditionalGeneration.from_pretrained(args.base)
    model.config.forced_decoder_ids = None
    model = prepare_model_for_kbit_training(model)

    targets = [n for n, _ in model.named_modules() if n.endswith(("q_proj", "k_proj", "v_proj", "fc1", "fc2"))]
    if args.adaptive:
        n_steps = args.epochs * len(train_dataset)
        config = AdaLoraConfig(target_modules=targets, init_r=16, target_r=6, lora_alpha=32, lora_dropout=0.1,
                               tinit=300, tfinal=900, deltaT=20, orth_reg_weight=0.5,
                               total_step=n_steps)
    else:
        config = LoraConfig(r=32, lora_alpha=64, target_modules=targets, lora_dropout=0.05, bias="none")
    model = get_peft_model(model, config)

    training_args = Seq2SeqTrainingArguments(
        output_dir=os.path.join(args.output, os.path.basename(args.base)),
        per_device_train_batch_size=args.batch,
        gradient_accumulation_steps=args.accum,
        num_train_epochs=args.epochs,
        learning_rate=1e-3,
        remove_unused_columns=False,
        label_names=["labels"],
    )
    trainer = Seq2SeqTrainer(
        args=training_args,
        model=model,
        train_dataset=train_dataset,
        data_collator=PadCollator(processor=processor),
        callbacks=[KeepAdapterCallback],
    )
    trainer.train()


if __name__ == "__main__":
    main()
