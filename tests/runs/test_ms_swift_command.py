"""The command of the real ms-swift, `tuner_type adalora`, with PEFT and with `install()` alone."""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest
from peft_releases import environment_of
from programs import run
from safetensors.torch import load_file
from script_parts import base_model, sentences, tokenizer

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.nightly

STEPS, TARGET = 16, 12
BEFORE = "import adalora_core.peft\n"
AFTER = "import swift.tuners.peft\nfrom adalora_core.bridge import install\ninstall()\n"
COMMAND = "import sys\nfrom swift.pipelines import sft_main\nsft_main(sys.argv[1:])\n"
SETTINGS = {
    "model": "base",
    "model_type": "llama",
    "template": "dummy",
    "dataset": "rows.jsonl",
    "tuner_type": "adalora",
    "adalora_init_r": 6,
    "adalora_target_r": 3,
    "adalora_tinit": 2,
    "adalora_tfinal": 4,
    "lora_dropout": 0,
    "max_steps": STEPS,
    "save_steps": STEPS // 2,
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 1,
    "learning_rate": 1e-2,
    "logging_steps": 1,
    "report_to": "none",
    "torch_dtype": "float32",
    "add_version": "false",
    "use_cpu": "true",
}

SAME = """
import sys
sys.path += {paths}
import torch
import ms_swift_patch as ours  # before the package, while the methods are PEFT's
import swift.tuners.peft as package
from peft import AdaLoraConfig, get_peft_model
from peft.tuners.adalora import AdaLoraModel, RankAllocator
from toy_models import tiny_llama, token_batch

for name in ("adalora_forward", "adalora_mask_to_budget"):
    assert getattr(ours, name).__globals__["__name__"] == package.__name__, name
    assert hasattr(package, name), name

def trained(forward, mask_to_budget):
    AdaLoraModel.forward, RankAllocator.mask_to_budget = forward, mask_to_budget
    torch.manual_seed(0)
    config = AdaLoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"], init_r=6, target_r=3,
                           tinit=2, tfinal=4, total_step=12)
    model = get_peft_model(tiny_llama(), config)
    optimizer, found = torch.optim.AdamW(model.parameters(), lr=1e-2), []
    for step in range(12):
        loss = model(**token_batch(step)).loss
        loss.backward()
        optimizer.step()
        model.update_and_allocate(step)
        optimizer.zero_grad()
        found += [loss.item(), str(model.peft_config["default"].rank_pattern)]
    return found

swift = trained(package.adalora_forward, package.adalora_mask_to_budget)
print("same" if swift == trained(ours.adalora_forward, ours.adalora_mask_to_budget) else "other")
"""
"""Losses and masks of a run; each module has its functions, whichever is PEFT's at the moment."""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An interpreter with ms-swift, whose own PEFT and transformers are older ones."""
    try:
        is_here = find_spec("swift.tuners") is not None
    except ModuleNotFoundError:
        is_here = False
    if is_here:
        return sys.executable
    return str(environment_of(tmp_path_factory.mktemp("ms-swift"), "ms-swift"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    base_model("LlamaForCausalLM").save_pretrained(tmp_path / "base")
    tokenizer().save_pretrained(tmp_path / "base")
    rows = [
        {"role": role, "content": text} for text in sentences(128) for role in ("user", "assistant")
    ]
    pairs = [{"messages": rows[place : place + 2]} for place in range(0, len(rows), 2)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    return tmp_path


def train(
    python: str, folder: Path, name: str, first: str = "", *launcher: str, **changes: Any
) -> str:
    """Run the command into the folder `name` after the lines `first`; return what it prints."""
    (folder / "command.py").write_text(first + COMMAND)
    settings = SETTINGS | {"output_dir": name} | changes
    options = [part for key, value in settings.items() for part in (f"--{key}", str(value))]
    variables = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    targets = ("--target_modules", "q_proj", "v_proj")
    done = run(
        *(python, "-P", *launcher, "command.py", *targets, *options),
        cwd=folder,
        variables=variables,
        timeout=500,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return done.stdout + done.stderr


def ranks(folder: Path, name: str, step: int = STEPS) -> dict[str, int]:
    tensors = load_file(folder / name / f"checkpoint-{step}" / "adapter_model.safetensors")
    return {key: len(each) for key, each in tensors.items() if key.endswith("lora_E")}


def losses(folder: Path, name: str) -> list[float]:
    lines = (folder / name / "logging.jsonl").read_text().splitlines()
    return [entry["loss"] for entry in map(json.loads, lines) if "loss" in entry]


def test_one_process_trains_as_with_peft_and_resumes(python: str, folder: Path) -> None:
    assert "ADA8" not in train(python, folder, "peft")
    for name, first in (("before", BEFORE), ("after", AFTER)):
        assert "ADA8" not in train(python, folder, name, first)
        assert ranks(folder, name) == ranks(folder, "peft")
        assert sum(ranks(folder, name).values()) == TARGET
        assert losses(folder, name) == pytest.approx(losses(folder, "peft"), rel=1e-4)
    half = f"after/checkpoint-{STEPS // 2}"
    # Its callback counts from 1 again at the first step, and PEFT ends there with an IndexError.
    printed = train(python, folder, "resumed", AFTER, resume_from_checkpoint=half)
    assert "ADA808" in printed
    assert ranks(folder, "resumed") == ranks(folder, "after")
    assert losses(folder, "resumed") == pytest.approx(
        losses(folder, "after")[STEPS // 2 :], rel=1e-3
    )


def test_under_ddp_the_package_allocates(python: str, folder: Path) -> None:
    two = ("-m", "torch.distributed.run", "--nproc_per_node", "2")
    printed = train(python, folder, "ddp", AFTER, *two, ddp_backend="gloo")
    assert printed.count("allocate_automatically(False)") == 1
    assert sum(ranks(folder, "ddp").values()) == TARGET


def test_what_the_fast_tests_replace_is_what_the_package_replaces(python: str) -> None:
    paths = [path for path in sys.path if path.endswith(("support", "tests"))]
    printed = run(python, "-P", "-c", SAME.format(paths=paths)).stdout
    assert printed.split()[-1] == "same"
