"""Decode speech from intracranial recordings: a frozen Whisper decoder with an adapter."""
import torch
import torch.nn.functional as F
from peft import AdaLoraConfig, get_peft_model
from tqdm.auto import tqdm


class DecoderTrainer:
    def __init__(self, model, loader, cfg, log=print):
        self.cfg, self.log = cfg, log
        self.schedule = AdaLoraConfig(
            init_r=16, target_r=8, lora_alpha=16, tinit=500, tfinal=1500, deltaT=25,
            total_step=cfg.steps, target_modules=["q_proj", "v_proj"],
        )
        model.decoder = get_peft_model(model.decoder, self.schedule)
        self.model = model.cuda()
        self.loader = loader
        self.optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=cfg.lr)
        self.lr = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, cfg.steps)
        self.scaler = torch.amp.GradScaler("cuda")
        self.taken = 0

    def losses(self, out, rec):
        mel = F.l1_loss(out["mel"], rec["mel"])
        code = 1 - F.cosine_similarity(out["hidden"], rec["hidden"], dim=-1).mean()
        text = F.cross_entropy(out["logits"].flatten(0, 1), rec["tokens"].flatten())
        return mel, code, text

    def epoch(self):
        for rec in tqdm(self.loader):
            with torch.autocast("cuda", dtype=torch.float16):
                mel, code, text = self.losses(self.model(rec["eeg"].cuda()), rec)
                total = mel + self.cfg.code_weight * code + text
            if torch.isnan(total):
                continue
            self.scaler.scale(total).backward()
            self.scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 3.0)
            if self.taken >= self.schedule.tinit:
                self.model.decoder.base_model.update_and_allocate(self.taken)
            if self.taken == self.schedule.tinit:
                self.log(f"ranks move from step {self.taken} on")
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.optimizer.zero_grad()
            self.taken += 1
            self.lr.step()

    def fit(self):
        while self.taken < self.cfg.steps:
            self.epoch()
