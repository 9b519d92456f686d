import torch
from torch import nn

from aligner.config import adalora_config
from aligner.losses import clip_loss
from peft import AdaLoraModel


class SpeechEncoder(nn.Module):
    def __init__(self, whisper_encoder: nn.Module):
        super().__init__()
        for weight in whisper_encoder.parameters():
            weight.requires_grad = False
        self.encoder = AdaLoraModel(whisper_encoder, adalora_config, adapter_name="default")

    def forward(self, mel):
        return self.encoder(mel).last_hidden_state


class Session:
    def __init__(self, model: SpeechEncoder, lr: float):
        self.model = model
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
        self.scaler = torch.amp.GradScaler("cuda")
        self.adalora_steps = 0

    def run_batch(self, mel, brain, train: bool = True):
        with torch.autocast("cuda", dtype=torch.float16):
            loss = clip_loss(self.model(mel), brain)
        if train and not torch.isnan(loss):
            self.scaler.scale(loss).backward()
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.model.encoder.update_and_allocate(self.adalora_steps)
            self.adalora_steps += 1
            self.optimizer.zero_grad()
        return loss.detach().cpu().item()

    def fit(self, recordings, epochs: int):
        for epoch in range(epochs):
            losses = [self.run_batch(mel, brain) for mel, brain in recordings]
            print(epoch, sum(losses) / len(losses))
