"""Name the arms of the studies: what each trains, and which learning rates it tries."""

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


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to train.

    Attributes:
        label: what tables call it.
        ranks: of plain LoRA: a number, or how its pattern is made (`adapters.pattern`); empty for
            AdaLoRA, which finds its ranks.
        ranks_of: the arm from whose run the pattern is made.
        rate_of: the arm whose tuned learning rate it takes; empty if it is tuned itself.
        start: `init_lora_weights` of AdaLoRA.
        target_r: mean rank at the end of AdaLoRA.
        in_parameters: whether AdaLoRA scores triplets per parameter, under a budget in parameters.
        rates: "by rank" where each module's learning rate is in proportion to the rank that AdaLoRA
            found there; "half" where it is half as high until AdaLoRA has dropped its triplets.
        scale: at which it tries the learning rates of LoRA, where that is not 2.
    """

    label: str
    ranks: str = ""
    ranks_of: str = ""
    rate_of: str = ""
    start: str | bool = "lora"
    target_r: int = TARGET_R
    in_parameters: bool = False
    rates: str = ""
    scale: float = 0.0

    @property
    def is_lora(self) -> bool:
        """Whether the arm is plain LoRA at its end."""
        return bool(self.ranks)

    def tries(self, *, on_encoder: bool) -> tuple[tuple[float, float], ...]:
        """Return the learning rates and scales that are tried, as many for each arm."""
        if self.scale:
            return tuple((rate, self.scale) for rate, _ in LORA_TRIES)
        if not self.is_lora and self.start is True:
            return ENCODER_PEFT_START_TRIES if on_encoder else PEFT_START_TRIES
        return ENCODER_LORA_TRIES if on_encoder else LORA_TRIES


def _lora(label: str, ranks: str, ranks_of: str = "", rate_of: str = "") -> Arm:
    return Arm(label, ranks=ranks, ranks_of=ranks_of, rate_of=rate_of)


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
    "shuffled": Arm("... shuffled within kinds"),
    "shuffled-all": Arm("... shuffled over all modules"),
    "means": Arm("... the mean of each kind"),
    "pilot50": Arm("LoRA with ranks of a pilot of 50 steps, counted"),
    "pilot100": Arm("LoRA with ranks of a pilot of 100 steps, counted"),
    "pilot200": Arm("LoRA with ranks of a pilot of 200 steps, counted"),
    "even-pilot": Arm("LoRA, one rank, parameters of the pilot's ranks", rate_of="lora6"),
    "cut": Arm("LoRA, rank 16, cut by singular values"),
    "penalty": Arm("AdaLoRA, LoRA's start, penalty 0.1"),
    "from8": Arm("AdaLoRA, LoRA's start, from 8 to 4"),
    "from16": Arm("AdaLoRA, LoRA's start, from 16 to 4"),
    "magnitude": Arm("AdaLoRA, LoRA's start, magnitude"),
    "random": Arm("AdaLoRA, LoRA's start, random choice"),
    "energy": Arm("AdaLoRA, LoRA's start, energy per parameter"),
    "old": Arm("AdaLoRA, PEFT's start, from 8 to 4, penalty 0.1", start=True),
    "parameters": Arm("AdaLoRA, LoRA's start, score and budget in parameters", in_parameters=True),
    "parameters-found": _lora(
        "LoRA with the ranks of score and budget in parameters", "found", "parameters", "found"
    ),
    "moved": _lora("... moved within kinds, none in its place", "moved", "wide", "found"),
    "averaged": _lora("LoRA with ranks averaged over eight other seeds", "averaged", "wide"),
    "even-averaged": _lora("LoRA, one rank, as many parameters", "even", "averaged", "lora6"),
    "rates": Arm(
        "LoRA, one rank, learning rate by found rank", "even", ranks_of="wide", rates="by rank"
    ),
    "half": Arm("AdaLoRA, LoRA's start, half the rate until tfinal", rates="half"),
    "peft16": Arm("AdaLoRA, PEFT's start, scale 16", start=True, scale=16.0),
    "peft32": Arm("AdaLoRA, PEFT's start, scale 32", start=True, scale=32.0),
    "never": Arm("AdaLoRA, LoRA's start, 12 to the end", rate_of="wide", target_r=INIT_R),
    "broken": Arm("AdaLoRA, trained on bytes in random order"),
}
"""The arms by their name in the results; those with a label alone ran in the second study."""
BROKEN = "broken"
"""Wrong on purpose, for the short form."""
