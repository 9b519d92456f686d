"""The steps of the action and of the GitLab job run nothing of the checkout that they check."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import jsonschema
import pytest
import yaml
from pipeline_steps import ACTION, BASE, BASH, EXAMPLES, ROOT, environment_of, gitlab_job
from programs import output_of, run

from adalora_core.config.rules.base import SOUND

pytestmark = pytest.mark.slow

PAYLOAD = "import os\nos.mkdir(os.environ['CANARY'])\nos._exit(0)\n"
MODULES = (
    "venv.py", "pip/__init__.py", "pip/__main__.py", "json.py", "sitecustomize.py", "ensurepip.py",
    "usercustomize.py", "adalora_core/__init__.py", "adalora_core/__main__.py", "argparse.py",
)  # fmt: skip
PROGRAMS = ("python", "python3", "pip", "adalora")
PYTHON_FILES = "py", "typed"


@pytest.fixture(scope="module")
def contract_wheel(tmp_path_factory):
    """A wheel of the package without a compiled core, made without a build."""
    path = tmp_path_factory.mktemp("wheel") / "adalora_core-0.1.0-py3-none-any.whl"
    about = "adalora_core-0.1.0.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        for each in sorted((ROOT / "adalora_core").rglob("*.py")):
            wheel.write(each, each.relative_to(ROOT))
        wheel.writestr(
            f"{about}/METADATA", "Metadata-Version: 2.1\nName: adalora-core\nVersion: 0.1.0\n"
        )
        wheel.writestr(
            f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{about}/RECORD", "")
    return path


@dataclass
class Checkout:
    """A checkout of a stranger's change, and the machine that checks it."""

    outside: Path
    wheel: Path
    runner: Path

    def __post_init__(self):
        self.tree = self.outside / "checkout"
        self.canary = self.outside / "canary"
        self.outputs = self.outside / "outputs"
        for name in ("checkout", "home", "tmp"):
            (self.outside / name).mkdir()
        self.write(
            {"wrong.json": json.dumps(SOUND | {"deltaT": 0}), "sound.json": json.dumps(SOUND)}
        )

    def write(self, files):
        for name, text in files.items():
            path = self.tree / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def poison(self):
        self.write(dict.fromkeys(MODULES, PAYLOAD))
        for folder in (".adalora-venv/bin", "adalora/bin", "bin"):
            for name in PROGRAMS:
                self.write({f"{folder}/{name}": '#!/bin/sh\nmkdir "$CANARY"\nexit 0\n'})
                (self.tree / folder / name).chmod(0o755)

    def git(self, *arguments):
        who = {f"GIT_{a}_{b}": "x" for a in ("AUTHOR", "COMMITTER") for b in ("NAME", "EMAIL")}
        apart = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
        return output_of("git", *arguments, cwd=self.tree, variables=who | apart).strip()

    def commit(self):
        self.git("init", "--quiet")
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", "all")
        return self.git("rev-parse", "HEAD")

    def shell(self, script, **environment):
        ours = {
            "HOME": self.outside / "home", "RUNNER_TEMP": self.runner,
            "TMPDIR": self.outside / "tmp", "CANARY": self.canary, "GITHUB_OUTPUT": self.outputs,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PIP_NO_DEPS": "1", "PIP_NO_INDEX": "1",
        }  # fmt: skip
        variables = {name: str(value) for name, value in (ours | environment).items()}
        done = run(
            *BASH, script, cwd=self.tree, env=variables, timeout=300, stdin=subprocess.DEVNULL
        )
        assert not self.canary.exists(), done.stdout + done.stderr
        return done

    def step(self, number, base="", environment=None, **inputs):
        """Run a step of the action; the first one fetches Python."""
        known = {
            "steps.python.outputs.python-path": sys.executable,
            "github.action_path": str(self.wheel),
            BASE: base,
        }
        self.outputs.write_text("")
        step = ACTION["runs"]["steps"][number]
        variables = environment_of(step, known, inputs)
        return self.shell(step["run"], **variables | (environment or {}))

    def install(self, **options):
        return self.step(1, **options)

    def check(self, base="", **options):
        return self.step(2, base, **options)


@pytest.fixture(scope="module")
def runner(contract_wheel, tmp_path_factory):
    """The folder of a runner on which the action has installed the package."""
    folder = tmp_path_factory.mktemp("runner")
    Checkout(tmp_path_factory.mktemp("clean"), contract_wheel, folder).install()
    (site,) = folder.glob("adalora/lib/*/site-packages")
    # The dependencies of policies are not installed again.
    (site / "dependencies.pth").write_text(str(Path(jsonschema.__file__).parents[1]))
    return folder


@pytest.fixture
def checkout(contract_wheel, runner, tmp_path):
    return Checkout(tmp_path, contract_wheel, runner)


@pytest.mark.parametrize("environment", [{"PYTHONPATH": "."}], ids=["PYTHONPATH"])
def test_steps_of_the_action_run_nothing_of_the_checkout(checkout, environment):
    checkout.poison()
    checkout.runner = checkout.outside / "runner"
    checkout.runner.mkdir()
    assert checkout.install(environment=environment).returncode == 0
    done = checkout.check(environment=environment)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "::error file=wrong.json" in done.stdout
    assert "errors=1" in checkout.outputs.read_text()


@pytest.mark.parametrize(("paths", "environment"), [("*.json", {"PYTHONPATH": "."})])
def test_script_of_the_gitlab_job_runs_nothing_of_the_checkout(checkout, environment, paths):
    checkout.poison()
    checkout.write({"--exclude=wrong.json": "{}", "--output-file=json=sound.json": "{}"})
    job = gitlab_job()
    variables = job["variables"] | {
        "ADALORA_REQUIREMENT": str(checkout.wheel), "ADALORA_PATHS": paths,
    }  # fmt: skip
    done = checkout.shell("\n".join(job["script"]), **variables | environment)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "wrong.json" in done.stdout
    assert (checkout.tree / "sound.json").read_text() == json.dumps(SOUND)
    reports = {checkout.tree / name for name in job["artifacts"]["reports"].values()}
    assert all(path.is_file() for path in reports)


WEAK = '[tool.adalora]\nexit-zero = true\nexclude = ["wrong.json"]\n'
BASE_POLICY = '[tool.adalora]\npolicy = "policies/p.json"\n'


def test_change_is_checked_with_the_settings_of_its_base(checkout):
    checkout.write({
        "pyproject.toml": BASE_POLICY,
        "policies/p.json": '{"required": ["revision"]}',
        "run.yaml": "a: 1\n",
    })  # fmt: skip
    base = checkout.commit()
    checkout.write({
        "pyproject.toml": WEAK,
        "policies/p.json": "{}",
        ".gitattributes": "* -diff export-ignore\n",
        "run.yaml": "a: 1 # adalora: ignore-file[ADA202]\nb: 2 # Adalora : ignore[ADA202]\n",
        "UP.YAML": "a: 1 # adalora: ignore-file[ADA202]\n",
    })  # fmt: skip
    checkout.commit()
    done = checkout.check(base)
    assert done.returncode == 1
    assert "::error file=wrong.json" in done.stdout
    assert "`revision` is required" in done.stdout
    assert 'policy = "policies/p.json"' in done.stdout
    assert "comments and settings suppress 0 findings" in done.stdout
    # On a push the settings of the tree are used, and shown.
    done = checkout.check()
    assert done.returncode == 0
    assert 'exclude = ["wrong.json"], exit-zero = true' in done.stdout


CALL = "import peft\nc = peft.AdaLoraConfig(deltaT=0, init_r=4, target_r=2, total_step=9)"


def test_suppressed_findings_of_changed_files_are_listed(checkout):
    one = "# adalora: ignore-file[ADA204]"
    checkout.write({"old.yaml": f"{json.dumps(SOUND | {'deltaT': 0})} {one}\n",
                    "kanji.py": "", "moved.txt": f"{CALL}  {one}\n"})  # fmt: skip
    base = checkout.commit()
    hidden = one.replace("dal", "d\x1b(Bal")
    (checkout.tree / "kanji.py").write_bytes(f"# coding: iso2022_jp\n{CALL}  {hidden}\n".encode())
    (checkout.tree / "16.py").write_bytes(f"\n{CALL}  {one}\n".encode("utf-16"))
    checkout.write({".gitattributes": "16.py text working-tree-encoding=UTF-16\n* -diff\n"})
    (checkout.tree / "moved.txt").rename(checkout.tree / "::moved.py")
    (checkout.tree / "linked.yaml").symlink_to("old.yaml")
    checkout.commit()
    # As a checkout writes the file.
    (checkout.tree / "16.py").write_text(f"{CALL}  {one}\n")
    shown = checkout.check(base).stdout
    assert "comments and settings suppress 4 findings" in shown
    listed = re.findall(r"^suppressed in a changed file: (\S+):\d+: ADA204 ", shown, re.MULTILINE)
    assert sorted(listed) == ["16.py", "\\x3a:moved.py", "kanji.py"]
    assert "suppress 0 findings" in checkout.check(base, args="--no-suppressions").stdout


def test_ignore_file_of_a_change_hides_nothing(checkout):
    base = checkout.commit()
    checkout.write({".gitignore": "*\n", "node_modules/.gitignore": "*\n",
                    "node_modules/new.json": json.dumps(SOUND | {"deltaT": 0})})  # fmt: skip
    done = checkout.check(base)
    assert "::error file=wrong.json" in done.stdout
    assert "::error file=node_modules/new.json" in done.stdout


def _script_and_target(service, branch):
    """Return the script of a service's example, and the variable that names a change's target."""
    if service == "gitlab":
        return "\n".join(gitlab_job()["script"]), {"CI_MERGE_REQUEST_TARGET_BRANCH_NAME": branch}
    (job,) = yaml.safe_load((EXAMPLES / "azure-pipelines.yml").read_text())["jobs"]
    (script,) = (step["bash"] for step in job["steps"] if "bash" in step)
    return script, {"SYSTEM_PULLREQUEST_TARGETBRANCH": f"refs/heads/{branch}"}


@pytest.mark.parametrize("service", ["gitlab", "azure"])
def test_change_is_checked_with_the_settings_of_its_target_branch(checkout, service):
    checkout.write({"pyproject.toml": '[tool.adalora]\nlimit = ["depth=60"]\n'})
    checkout.commit()
    origin = str(checkout.outside / "origin.git")
    checkout.git("clone", "--quiet", "--bare", ".", origin)
    checkout.git("remote", "add", "origin", origin)
    checkout.git("fetch", "--quiet", "origin")
    script, target = _script_and_target(service, checkout.git("branch", "--show-current"))
    checkout.write({"pyproject.toml": WEAK})
    checkout.commit()
    variables = {"ADALORA_REQUIREMENT": checkout.wheel, "ADALORA_PATHS": "."}
    done = checkout.shell(script, **variables, **target)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "wrong.json" in done.stdout
    assert 'limit = ["depth=60"]' in done.stdout
    # On a push the settings of the tree are used, and shown.
    done = checkout.shell(script, **variables)
    assert done.returncode == 0, done.stdout + done.stderr
    assert 'exclude = ["wrong.json"], exit-zero = true' in done.stdout


@pytest.mark.parametrize("base", ["0" * 40, "--upload-pack=touch pwned"])
def test_change_whose_base_cannot_be_fetched_is_checked_without_settings(checkout, base):
    checkout.write({"pyproject.toml": WEAK})
    checkout.commit()
    done = checkout.check(base)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "::error file=wrong.json" in done.stdout
    assert "no settings are used" in done.stdout
    assert not (checkout.tree / "pwned").exists()


def test_change_that_adds_the_settings_is_checked_without_them(checkout):
    base = checkout.commit()
    checkout.write({"pyproject.toml": WEAK})
    checkout.commit()
    done = checkout.check(base)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "exit-zero" not in done.stdout


def test_checkout_that_is_no_repository_is_checked_without_settings(checkout):
    checkout.write(
        {"pyproject.toml": WEAK, "HEAD": "ref: refs/heads/x\n", "refs/x": "", "objects/x": ""}
    )
    checkout.write({"config": '[core]\n\tbare = true\n\tfsmonitor = "mkdir $CANARY"\n'})
    done = checkout.check("0" * 40)
    assert done.returncode == 1
    assert "no settings are used" in done.stdout


def test_links_of_the_checkout_are_not_followed(checkout):
    (checkout.outside / "secret").mkdir()
    (checkout.outside / "secret" / "a.json").write_text('{"peft_type": "ADALORA", "r": "CANARY-1"}')
    (checkout.tree / "configs").symlink_to("../secret")
    for paths in ("configs", "configs/a.json", "configs/*.json", "."):
        done = checkout.check(paths=paths)
        assert done.returncode != 0
        assert "CANARY-1" not in done.stdout + done.stderr


def test_every_python_of_hooks_and_pipelines_is_isolated():
    texts = [step.get("run", "") for step in ACTION["runs"]["steps"]] + gitlab_job()["script"]
    texts += (ROOT / ".pre-commit-hooks.yaml").read_text().splitlines()
    calls = [call for text in texts for call in re.findall(r"\bpython[^\s=]* +-\S+.*", text)]
    assert len(calls) >= 4
    assert all(re.match(r"python\S* -I -[mc] ", call) for call in calls), calls
