import argparse
from pathlib import Path

import torch
from accelerate import Accelerator
from peft import AdaLoraConfig, get_peft_model
from torch import nn
from transformers import Wav2Vec2Model

from ipa import VOCAB, ipa_loader

ADAPTER = AdaLoraConfig(
    init_r=12,
    target_r=8,
    beta1=0.85,
    beta2=0.85,
    tinit=200,
    tfinal=1000,
    deltaT=10,
    lora_alpha=32,
    lora_dropout=0.1,
    target_modules=["q_proj", "v_proj"],
    total_step=1000,
)


class PhonemeRecognizer(nn.Module):
    def __init__(self, name="facebook/wav2vec2-xls-r-300m"):
        super().__init__()
        self.encoder = get_peft_model(Wav2Vec2Model.from_pretrained(name), ADAPTER)
        self.classifier = nn.Linear(self.encoder.config.hidden_size, len(VOCAB))
        self.ctc_loss = nn.CTCLoss(blank=0, zero_infinity=True)

    def forward(self, audio):
        hidden = self.encoder(audio).last_hidden_state
        return self.classifier(hidden).log_softmax(-1).transpose(0, 1)


def train_epoch(model, optimizer, loader, accelerator):
    model.train()
    total = 0.0
    for audio, phones, lengths in loader:
        with accelerator.accumulate(model):
            log_probs = model(audio)
            frames = torch.full((audio.size(0),), log_probs.size(0), dtype=torch.long)
            loss = accelerator.unwrap_model(model).ctc_loss(log_probs, phones, frames, lengths)
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
        total += loss.item()
    return total / len(loader)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--accumulation_steps", type=int, default=4)
    parser.add_argument("--out", type=Path, default=Path("checkpoints"))
    args = parser.parse_args()
    accelerator = Accelerator(gradient_accumulation_steps=args.accumulation_steps)
    recognizer = PhonemeRecognizer()
    optimizer = torch.optim.AdamW(recognizer.parameters(), lr=1e-4)
    recognizer, optimizer, loader = accelerator.prepare(recognizer, optimizer, ipa_loader("train"))
    for epoch in range(args.epochs):
        print(epoch, train_epoch(recognizer, optimizer, loader, accelerator))
        accelerator.save_state(args.out / str(epoch))
