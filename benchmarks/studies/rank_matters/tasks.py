"""Name the tasks of the studies, and which arms ran on each in the second one."""

from __future__ import annotations

from dataclasses import dataclass

TEST_SEEDS = range(1, 9)
TUNING_SEEDS = (101, 102)
"""They share the pretrained models of the seeds 1 and 2, and nothing else."""
BASE_RATE = 2e-3
"""Peak of the learning rate in the pretraining."""
KINDS = ("query", "key", "value", "output", "up", "down")
"""The six linear layers of a block, all of which are adapted."""


@dataclass(frozen=True, slots=True)
class Size:
    """The size of a model, and how many steps it is pretrained."""

    width: int
    blocks: int
    heads: int
    base_steps: int = 1000


SIZES = {"small": Size(96, 4, 4), "large": Size(192, 4, 6), "tiny": Size(32, 2, 2, base_steps=150)}
"""0.50 M and 1.89 M parameters; `tiny` is the model of the short form."""


@dataclass(frozen=True, slots=True)
class Task:
    """What is learned.

    Attributes:
        label: what tables call it.
        size: a key of SIZES; empty for sentences that people rated.
        source: text of the pretraining, or the set of sentences.
        target: text that the model is adapted to.
    """

    label: str
    size: str
    source: str
    target: str = ""

    @property
    def on_encoder(self) -> bool:
        """Whether the task is one of the first study: sentences and a pretrained encoder."""
        return not self.size


TASKS = {
    "code": Task("Python to C++, 0.5 M", "small", "python", "cpp"),
    "languages": Task("English to German, 0.5 M", "small", "english", "german"),
    "prose-code": Task("English to Python, 0.5 M", "small", "english", "python"),
    "languages-large": Task("English to German, 1.9 M", "large", "english", "german"),
    "news": Task("ratings of news", "", "news"),
    "movies": Task("ratings of movies", "", "movies"),
    "short": Task("this repository's Python to C++, tiny", "tiny", "own python", "own cpp"),
}


@dataclass(frozen=True, slots=True)
class Block:
    """Arms that are tuned, and run by the same seeds, on one task.

    Attributes:
        task: a key of TASKS.
        steps: optimizer steps of a run, those of a pilot included.
        arms: keys of ARMS; an arm comes after the arms that it needs.
        tuned_in: task and steps of the block whose tuning counts here, if it is another.
        only_tuned: arms whose learning rate others take, and that are not tested.
        given: learning rate and scale of all arms, without tuning.
    """

    task: str
    steps: int
    arms: tuple[str, ...]
    tuned_in: tuple[str, int] | None = None
    only_tuned: tuple[str, ...] = ()
    given: tuple[float, float] | None = None


CHECK = ("lora1", "lora8")
"""Does rank matter here?"""
CLAIMED = ("lora6", *CHECK, "lora4", "wide", "peft", "even", "found", "shuffled")
LONG = ("wide", "even", "pilot100", "even-pilot")
VARIANTS = (
    *("penalty", "from8", "from16", "magnitude", "random", "energy", "parameters", "old"),
    *("means", "shuffled-all", "pilot50", "pilot100", "pilot200", "cut"),
)
ON_ENCODER = (*CHECK, "lora4", "wide", "peft", "even")
TUNED = ("lora6",)
"""All LoRA with one rank takes the learning rate of rank 6, near the parameters of AdaLoRA."""
BLOCKS = (
    Block("code", 300, CLAIMED),
    Block("languages", 300, CLAIMED),
    Block("prose-code", 300, CLAIMED),
    Block("code", 1000, LONG, only_tuned=TUNED),
    Block("languages-large", 300, CLAIMED),
    Block("languages", 1000, LONG, only_tuned=TUNED),
    Block("news", 200, ON_ENCODER, only_tuned=TUNED),
    Block("code", 300, VARIANTS),
    Block("movies", 200, ON_ENCODER, tuned_in=("news", 200)),
    Block("code", 3000, LONG, tuned_in=("code", 1000)),
)
"""Of the second study, which is closed: its runs are recorded."""
