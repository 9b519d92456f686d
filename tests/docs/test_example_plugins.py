"""The plugins in examples/ for axolotl and ms-swift, in runs of these trainers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from programs import output_of_python
from tool_runs import (
    FIELDS,
    MATRICES,
    OFFLINE,
    STEPS,
    are_equal,
    budget_of,
    needs,
    require_no_finding,
    weights_of,
    write_inputs,
    write_settings,
)  # fmt: skip
from walkthroughs import DOCS


@pytest.mark.nightly
@needs("axolotl")
def test_command_of_axolotl_ends_at_the_budget_and_resumes(tmp_path: Path) -> None:
    write_inputs(tmp_path, str)
    changes = {
        "base_model": "model",
        "adalora": FIELDS,
        "dataset_prepared_path": "prepared",
        "sequence_len": 64,
        "max_steps": STEPS,
        "save_steps": STEPS // 2,
        "bf16": False,
        "fp16": False,
        "tf32": False,
        "output_dir": "whole",
    }
    write_settings(tmp_path / "axolotl.yaml", changes)
    found = {"PYTHONPATH": str(DOCS.parent / "examples")}
    command = ("-m", "axolotl.cli.main", "train", "axolotl.yaml", "--launcher", "python")
    output_of_python(*command, variables=OFFLINE | found, cwd=tmp_path)
    assert budget_of(tmp_path / "whole") == (MATRICES * FIELDS["target_r"], STEPS)
    middle = f"whole/checkpoint-{STEPS // 2}"
    more = ("--output-dir", "resumed", "--resume-from-checkpoint", middle)
    output_of_python(*command, *more, variables=OFFLINE | found, cwd=tmp_path)
    assert are_equal(tmp_path / "whole", tmp_path / "resumed")
    require_no_finding(tmp_path)


@pytest.mark.nightly
@needs("swift")
@pytest.mark.parametrize("processes", [1, 2])
def test_command_of_ms_swift_ends_at_the_budget_and_resumes(processes: int, tmp_path: Path) -> None:
    write_inputs(tmp_path, str)
    schedule = {
        f"adalora_{name}": FIELDS[name] for name in ("init_r", "target_r", "tinit", "tfinal")
    }
    changes = schedule | {
        "model": "model", "model_type": "llama", "template": "dummy", "max_steps": STEPS,
        "save_steps": STEPS // 2, "lora_dropout": 0, "per_device_train_batch_size": 4,
        "torch_dtype": "float32", "use_cpu": "true", "report_to": "none", "add_version": "false",
        "check_model": "false", "learning_rate": 0.01,
    }  # fmt: skip
    variables = OFFLINE
    if processes > 1:
        changes["ddp_backend"] = "gloo"
        variables = OFFLINE | {"NPROC_PER_NODE": "2"}

    def train(output: str, **more: Any) -> Path:
        file = tmp_path / "swift.yaml"
        given = {
            "external_plugins": str(DOCS.parent / "examples" / "adalora_ms_swift.py"),
            "output_dir": output,
            **more,
        }
        write_settings(file, changes | given)
        command = ("-m", "swift.cli.main", "sft", file)
        output_of_python(*command, variables=variables, cwd=tmp_path)
        return tmp_path / output / f"checkpoint-{STEPS}"

    whole = train("whole")
    assert budget_of(whole) == (MATRICES * FIELDS["target_r"], STEPS)
    middle = str(tmp_path / "whole" / f"checkpoint-{STEPS // 2}")
    assert are_equal(whole, train("resumed", resume_from_checkpoint=middle))
    require_no_finding(tmp_path)
    # Without the plugin, ms-swift's own callback allocates on one process alone.
    values = [
        each
        for name, each in weights_of(train("alone", external_plugins=None)).items()
        if "lora_E" in name
    ]
    kept = sum(int((each != 0).sum()) for each in values)
    wanted = FIELDS["target_r"] if processes == 1 else FIELDS["init_r"]
    assert kept == MATRICES * wanted
