"""The files around the package: workflows, issue forms, hooks, citation, addresses."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from programs import output_of

ROOT = Path(__file__).parents[2]
GITHUB = ROOT / ".github"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
WORKFLOWS = {
    path.name: yaml.safe_load(path.read_text("utf-8")) for path in GITHUB.glob("workflows/*.yml")
}
# Runners have no nvcc; the wheels are built with one.
NOT_IN_WORKFLOWS = {"cuda"}
PINNED = re.compile(r"uses: [\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$")
needs_clone = pytest.mark.skipif(
    not GITHUB.exists(), reason="an sdist has no workflows; would have compared them with .ci/run"
)


def steps_of(workflow):
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


@needs_clone
def test_workflows_run_the_sections_that_a_contributor_runs():
    script = (ROOT / ".ci" / "run").read_text("utf-8")
    sections = set(re.findall(r"^sections=\((.*)\)$", script, re.MULTILINE)[0].split())
    listed = re.findall(
        r"^  ([\w-]+) {2,}\S", output_of(ROOT / ".ci" / "run", "--help"), re.MULTILINE
    )
    assert set(listed) == sections
    run = set()
    for workflow in WORKFLOWS.values():
        for job in workflow["jobs"].values():
            for command in (step["run"] for step in job["steps"] if "run" in step):
                assert command.startswith(".ci/run ")
                run |= set(command.split()[1:])
            if "${SECTIONS}" in run:
                run |= set(" ".join(job["strategy"]["matrix"]["sections"]).split())
                run.remove("${SECTIONS}")
    assert run == sections - NOT_IN_WORKFLOWS


@needs_clone
def test_workflows_name_their_permissions_and_keep_no_credentials():
    assert set(WORKFLOWS) == {"ci.yml", "newest.yml", "site.yml", "wheels.yml"}
    for workflow in WORKFLOWS.values():
        assert workflow["permissions"] == {"contents": "read"}
        for step in steps_of(workflow):
            assert "${{" not in step.get("run", "")
            if "checkout" in step.get("uses", ""):
                assert step["with"] == {"persist-credentials": False}
        assert all("timeout-minutes" in job for job in workflow["jobs"].values())


@needs_clone
def test_actions_are_pinned_to_a_commit_whose_release_is_named():
    for path in [ROOT / "action.yml", *GITHUB.glob("workflows/*.yml")]:
        used = [line for line in path.read_text("utf-8").splitlines() if "uses:" in line]
        assert [line for line in used if not PINNED.search(line) and line[0] != "#"] == []


@needs_clone
def test_every_form_for_issues_asks_what_the_environment_is():
    forms = [path for path in GITHUB.glob("ISSUE_TEMPLATE/*.yml") if path.stem != "config"]
    assert len(forms) == 3
    for form in forms:
        asked = {part.get("id"): part for part in yaml.safe_load(form.read_text("utf-8"))["body"]}
        assert "`adalora env`" in asked["env"]["attributes"]["label"]


@needs_clone
def test_hooks_of_the_repository_are_tools_that_developers_install():
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))
    (local,) = config["repos"]
    programs = {hook["entry"].split()[0] for hook in local["hooks"]}
    assert programs == {"ruff", "clang-format", "mypy", "adalora"}
    extras = PROJECT["optional-dependencies"]
    installed = {re.split(r"[><=\[ ]", each)[0] for each in extras["dev"] + extras["test"]}
    assert programs - {"adalora"} <= installed


def test_citation_is_of_this_release():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]


def test_addresses_lead_to_no_host_that_somebody_else_could_own():
    hosts = {urlsplit(address).hostname for address in PROJECT["urls"].values()}
    assert hosts <= {"arxiv.org", "github.com"}
