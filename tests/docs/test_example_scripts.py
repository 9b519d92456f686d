"""The scripts under examples/ run as they are and find what they say."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
from programs import LEAVING_RANKS, output_of_python

EXAMPLES = Path(__file__).parents[2] / "examples"
HAS_TORCH = importlib.util.find_spec("torch") is not None

ACCURACY_OF_THE_DEMO = 94.1
"""Percent of its held-out words, after all of its steps."""
NOISE = 1.5
"""Two and a half standard deviations of a share of 1,500 words."""

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
        r"epoch 3: train_loss .* eval_loss .*",
        r"ranks sum to 96, target 96",
        r"the reloaded model generates the same: True",
    ],
    "trainer_loop.py": [
        r"checkpoint: adalora_state\.[0-9a-f]{16}\.safetensors, .*, adapter_model\.safetensors",
        r"ranks sum to 42 of 84, target 42",
        r"largest difference between the resumed run and the whole one 0\.0",
    ],
}
"""Patterns that a script must print; a script without an entry fails the test below."""


def test_every_example_script_is_tested():
    plugins = {"adalora_axolotl.py", "adalora_ms_swift.py"}  # test_example_plugins.py runs them
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(SAYS) | plugins


# The examples train, some for seconds; on a machine without torch there is nothing to run.
@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SAYS) if HAS_TORCH else [])
def test_example_script_runs_and_prints_what_it_promises(name, tmp_path):
    printed = run(EXAMPLES / name, tmp_path)
    for pattern in SAYS[name]:
        assert re.search(f"^{pattern}$", printed, re.MULTILINE), printed
    assert list(tmp_path.iterdir()) == []


@pytest.mark.nightly
@pytest.mark.skipif(not HAS_TORCH, reason="the script trains")
def test_script_for_peft_has_one_line_of_ours(tmp_path):
    script = EXAMPLES / "peft_seq2seq.py"
    text = script.read_text(encoding="utf-8")
    assert text.count("adalora_core") == 1
    alone = tmp_path / script.name
    alone.write_text(text.replace("from adalora_core.peft", "from peft"), encoding="utf-8")
    with_peft_alone, with_the_line = first_evaluation(alone), first_evaluation(script)
    # PEFT's contains the penalty.
    assert with_peft_alone > with_the_line + 0.1


def first_evaluation(script):
    """Run the script and return the loss of its first evaluation."""
    printed = run(script, script.parent)
    return float(re.search(r"^epoch 0: .* eval_loss (.*)$", printed, re.MULTILINE)[1])


def run(script, folder):
    """Run the script in the folder and return what it prints."""
    command = ["-Werror", *PEFT_WARNINGS, script, *ARGUMENTS.get(script.name, [])]
    return output_of_python(*command, timeout=600, cwd=folder)


@pytest.mark.nightly
@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"] if HAS_TORCH else [])
def test_two_processes_reach_the_accuracy_of_the_demo(strategy, tmp_path):
    printed = output_of_python(
        *("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
        *(EXAMPLES / "distributed_minilm.py", "--strategy", strategy),
        timeout=6000,
        cwd=tmp_path,
        variables={"OMP_NUM_THREADS": "1", "PYTHONPATH": LEAVING_RANKS},
    )
    pattern = rf"^2 processes with {strategy}: (.*)% of the held-out words after"
    found = re.search(pattern, printed, re.MULTILINE)
    assert found, printed
    assert float(found[1]) > ACCURACY_OF_THE_DEMO - NOISE
    assert re.search("^ranks sum to 144, target 144$", printed, re.MULTILINE)
    assert list(tmp_path.iterdir()) == []
