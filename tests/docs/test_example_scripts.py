"""The scripts under examples/ run as they are and find what they say."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
HAS_TORCH = importlib.util.find_spec("torch") is not None

PEFT_WARNINGS = [
    # PEFT asks transformers by a name that transformers has deprecated,
    "-Wignore:`is_gradient_checkpointing` is deprecated:FutureWarning",
    # and takes the rank pattern of any pruned AdaLoRA adapter for LoRA's.
    "-Wignore:The following rank_pattern keys did not match:RuntimeWarning",
]

ARGUMENTS = {"distributed_minilm.py": ["--quick"]}
"""Of scripts that take too long without."""

SAYS = {
    "custom_loop.py": [r"rank [01] of 4: 0", r"rank [01] of 4: 2", r"rank [23] of 4: 4"],
    "distributed_minilm.py": [
        r"1 process: .*% of the held-out words after \d+ s of training",
        r"ranks sum to 144, target 144",
        r"saved adapter_config\.json adapter_model\.safetensors",
    ],
    "peft_seq2seq.py": [
        r"epoch 3: train_loss .*",
        r"ranks sum to 96, target 96",
        r"PEFT alone reloads it: largest difference (0e\+00|\de-0[6-9])",
    ],
    "trainer_loop.py": [
        r"checkpoint: adalora_state\.json, .*, adapter_model\.safetensors",
        r"ranks sum to 42 of 84, target 42",
        r"largest difference between the resumed run and the whole one 0\.0",
    ],
}
"""Patterns that a script must print; a script without an entry fails the test below."""


def test_every_example_script_is_tested():
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(SAYS)


# The examples train, some for seconds; on a machine without torch there is nothing to run.
@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SAYS) if HAS_TORCH else [])
def test_example_script_runs_and_prints_what_it_promises(name, tmp_path):
    result = subprocess.run(
        [sys.executable, "-Werror", *PEFT_WARNINGS, str(EXAMPLES / name), *ARGUMENTS.get(name, [])],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=tmp_path,
    )
    assert result.returncode == 0, result.stderr
    for pattern in SAYS[name]:
        assert re.search(f"^{pattern}$", result.stdout, re.MULTILINE), result.stdout
    assert list(tmp_path.iterdir()) == []
