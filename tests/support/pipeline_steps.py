"""Read the steps of the action and the script of the GitLab job, as their services run them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "ci"
ACTION = yaml.safe_load((ROOT / "action.yml").read_text("utf-8"))
BASE = "github.event.pull_request.base.sha || github.event.merge_group.base_sha"
BASH = ("bash", "--noprofile", "--norc", "-eo", "pipefail", "-c")


def environment_of(
    step: dict[str, Any], known: dict[str, str], inputs: dict[str, str]
) -> dict[str, str]:
    """Return the environment of a step of the action, given the values of its expressions."""
    given = {name: each["default"] for name, each in ACTION["inputs"].items()} | inputs
    values = {BASE: ""} | known | {f"inputs.{name}": value for name, value in given.items()}
    return {
        name: re.sub(r"\$\{\{ (.*?) \}\}", lambda found: values[found[1]], value)
        for name, value in step["env"].items()
    }


def gitlab_job() -> dict[str, Any]:
    """Return the GitLab job of the example."""
    (job,) = yaml.safe_load((EXAMPLES / "gitlab-ci.yml").read_text("utf-8")).values()
    return job
