"""Name the arms of the study: what each trains, and which learning rates it tries."""

from __future__ import annotations

from dataclasses import dataclass

LORA_TRIES = ((0.005, 2.0), (0.01, 2.0), (0.02, 2.0), (0.04, 2.0))
PEFT_START_TRIES = ((0.01, 2.0), (0.02, 2.0), (0.04, 2.0), (0.02, 8.0))
"""Learning rate and scale. AdaLoRA with LoRA's start has the tries of LoRA."""
ENCODER_LORA_TRIES = ((1e-3, 2.0), (2e-3, 2.0), (4e-3, 2.0), (8e-3, 2.0))
ENCODER_PEFT_START_TRIES = ((3e-3, 2.0), (9e-3, 2.0), (3e-3, 8.0), (9e-3, 8.0))
"""The same for the encoder, around what the first study found best."""
TARGET_R, INIT_R = 4, 12
PRUNING = (0.1, 0.4)
"""Shares of a run between which AdaLoRA drops triplets."""
OLD_PRUNING = (0.1, 0.6)
"""As in the first study."""
PILOT_PRUNING = (0.1, 0.9)


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to train.

    Attributes:
        label: what tables call it.
        ranks: of plain LoRA: a number, or how its pattern is made (`training.pattern`); empty for
            AdaLoRA, which finds its ranks.
        ranks_of: the arm from whose run, of the same seed, the pattern is made.
        rate_of: the arm whose tuned learning rate it takes; empty if it is tuned itself.
        pilot: steps of AdaLoRA that find the ranks; they count as steps of the run.
        start: `init_lora_weights` of AdaLoRA.
        init_r: rank of every matrix at the start of AdaLoRA.
        penalty: `orth_reg_weight` of AdaLoRA.
        score: how triplets are scored.
        pruning: shares of the run between which triplets are dropped.
    """

    label: str
    ranks: str = ""
    ranks_of: str = ""
    rate_of: str = ""
    pilot: int = 0
    start: str | bool = "lora"
    init_r: int = INIT_R
    penalty: float = 0.0
    score: str = "sensitivity"
    pruning: tuple[float, float] = PRUNING

    @property
    def is_lora(self) -> bool:
        """Whether the arm is plain LoRA at its end."""
        return bool(self.ranks)

    def tries(self, *, on_encoder: bool) -> tuple[tuple[float, float], ...]:
        """Return the learning rates and scales that are tried, as many for each arm."""
        if not self.is_lora and self.start is True:
            return ENCODER_PEFT_START_TRIES if on_encoder else PEFT_START_TRIES
        return ENCODER_LORA_TRIES if on_encoder else LORA_TRIES


def _lora(label: str, ranks: str, ranks_of: str = "", rate_of: str = "") -> Arm:
    return Arm(label, ranks=ranks, ranks_of=ranks_of, rate_of=rate_of)


def _pilot(steps: int) -> Arm:
    label = f"LoRA with ranks of a pilot of {steps} steps, counted"
    return Arm(label, ranks="found", pilot=steps, pruning=PILOT_PRUNING)


ARMS = {
    "base": Arm("the pretrained model"),
    "lora1": _lora("LoRA, rank 1", "1", rate_of="lora6"),
    "lora4": _lora("LoRA, rank 4", "4", rate_of="lora6"),
    "lora6": _lora("LoRA, rank 6", "6"),
    "lora8": _lora("LoRA, rank 8", "8", rate_of="lora6"),
    "even": _lora("LoRA, one rank, parameters of AdaLoRA", "even", "wide", "lora6"),
    "wide": Arm("AdaLoRA, LoRA's start, from 12 to 4"),
    "peft": Arm("AdaLoRA, PEFT's start, from 12 to 4", start=True),
    "found": _lora("LoRA with AdaLoRA's ranks", "found", "wide"),
    "shuffled": _lora("... shuffled within kinds", "shuffled", "wide"),
    "shuffled-all": _lora("... shuffled over all modules", "shuffled over all", "wide"),
    "means": _lora("... the mean of each kind", "means", "wide"),
    "pilot50": _pilot(50),
    "pilot100": _pilot(100),
    "pilot200": _pilot(200),
    "even-pilot": _lora(
        "LoRA, one rank, parameters of the pilot's ranks", "even", "pilot100", "lora6"
    ),
    "cut": _lora("LoRA, rank 16, cut by singular values", "cut", "wide"),
    "penalty": Arm("AdaLoRA, LoRA's start, penalty 0.1", penalty=0.1),
    "from8": Arm("AdaLoRA, LoRA's start, from 8 to 4", init_r=8),
    "from16": Arm("AdaLoRA, LoRA's start, from 16 to 4", init_r=16),
    "magnitude": Arm("AdaLoRA, LoRA's start, magnitude", score="magnitude"),
    "random": Arm("AdaLoRA, LoRA's start, random choice", score="random"),
    "energy": Arm("AdaLoRA, LoRA's start, energy per parameter", score="energy per parameter"),
    "parameters": Arm(
        "AdaLoRA, LoRA's start, score and budget in parameters", score="per parameter"
    ),
    "old": Arm(
        "AdaLoRA, PEFT's start, from 8 to 4, penalty 0.1",
        start=True,
        init_r=8,
        penalty=0.1,
        pruning=OLD_PRUNING,
    ),
    "broken": Arm("AdaLoRA, trained on bytes in random order"),
}
"""The arms by their name in the results."""
BROKEN = "broken"
"""Wrong on purpose, for the short form."""
CUT_RANK = 16
