"""The site with its playground, served and opened in a browser."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from browser import SITE, chromium, served
from programs import output_of_python

ROOT = Path(__file__).parents[2]


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
