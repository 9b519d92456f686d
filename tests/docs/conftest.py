"""The site with its playground, served and opened in a browser."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from browser import SITE, chromium, served
from playground_page import Playground
from programs import output_of_python

ROOT = Path(__file__).parents[2]
SIZES = {"desktop": (1280, 900), "phone": (390, 844)}


@pytest.fixture
def uninstalled():
    """Let an import in an example install the bridge to PEFT, and take it off again."""
    sys.modules.pop("adalora_core.peft", None)
    yield
    if sys.modules.pop("adalora_core.peft", None):
        sys.modules["adalora_core.bridge"].uninstall()


@pytest.fixture(scope="session")
def browser():
    with chromium() as started:
        yield started


@pytest.fixture(scope="session")
def built_site(browser, tmp_path_factory) -> Path:  # noqa: ARG001 - without one nothing is built
    if SITE in os.environ:
        return Path(os.environ[SITE])
    folder = tmp_path_factory.mktemp("site")
    variables = {"NO_MKDOCS_2_WARNING": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    build = ("-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder)
    output_of_python(*build, cwd=ROOT, variables=variables)
    return folder


@pytest.fixture(scope="session")
def served_site(built_site):
    with served(built_site) as (address, faults):
        yield address, faults


@pytest.fixture(params=SIZES)
def playground(request, browser, served_site):
    width, height = SIZES[request.param]
    page = browser.new_page(viewport={"width": width, "height": height})
    yield Playground(page, served_site[0])
    page.close()


@pytest.fixture(scope="module")
def opened(browser, served_site):
    """One page for tests that leave nothing behind: Python starts once."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    yield Playground(page, served_site[0]).open()
    page.close()
