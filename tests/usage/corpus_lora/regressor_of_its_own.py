"""Lightning: a custom net wrapped as a whole, with its head named in modules_to_save."""
import lightning as L
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import AutoModel


class Regressor(nn.Module):
    def __init__(self, name):
        super().__init__()
        self.encoder = AutoModel.from_pretrained(name)
        self.readout = nn.Sequential(nn.Linear(self.encoder.config.hidden_size, 64), nn.GELU(), nn.Linear(64, 1))

    def forward(self, **batch):
        h = self.encoder(**batch).last_hidden_state[:, 0]
        return self.readout(h).squeeze(-1)


class Stability(L.LightningModule):
    def __init__(self, name="facebook/esm2_t12_35M_UR50D"):
        super().__init__()
        config = LoraConfig(r=8, lora_alpha=8, target_modules=["query", "value"], modules_to_save=["readout"])
        self.net = get_peft_model(Regressor(name), config)

    def training_step(self, batch, _):
        y = batch.pop("y")
        return nn.functional.mse_loss(self.net(**batch), y)

    def configure_optimizers(self):
        return torch.optim.AdamW([p for p in self.net.parameters() if p.requires_grad], lr=5e-4)


if __name__ == "__main__":
    from proteins import Data

    L.Trainer(max_epochs=20).fit(Stability(), Data())
