"""The installed files name no host that this project does not own and others might."""

from __future__ import annotations

import json
import re
from pathlib import Path

from contract_configs import SOUND

import adalora_core
from adalora_core.checker.check import check_config
from adalora_core.checker.reports import FORMATS, Outcome, render

PACKAGE = Path(adalora_core.__file__).parent
SCHEMAS = Path(__file__).parents[2] / "schemas"
ADDRESS = re.compile(r"https?://([^/\s\"'`)>\]]+)")
# The publishers of the cited standards and of the paper.
OWNED_BY_OTHERS = {"json-schema.org", "docs.oasis-open.org", "arxiv.org", "learn.microsoft.com"}


def hosts(text: str) -> set[str]:
    return {match[1].rstrip(".,") for match in ADDRESS.finditer(text)}


def test_package_and_schemas_name_hosts_of_standards_alone():
    files = [*PACKAGE.rglob("*.py"), *SCHEMAS.glob("*.json")]
    named = {path.name: hosts(path.read_text("utf-8")) - OWNED_BY_OTHERS for path in files}
    assert len(named) > 50
    assert {name: found for name, found in named.items() if found} == {}


def test_reports_name_hosts_of_standards_alone():
    report = check_config(json.dumps(SOUND | {"delta_t": 0, "deltaT": 0}))
    for form in FORMATS:
        assert hosts(render(Outcome((report,)), form)) <= OWNED_BY_OTHERS, form


def test_schemas_have_distinct_names_that_hold_a_version():
    files = SCHEMAS.glob("*.schema.json")
    named = [json.loads(path.read_text("utf-8"))["$id"] for path in files]
    assert len(set(named)) == len(named) >= 3
    for name in named:
        assert re.fullmatch(r"urn:adalora-core:schemas/[\w-]+/\d+\.\d+/[\w.-]+\.json", name)
