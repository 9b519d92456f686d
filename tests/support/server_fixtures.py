"""Start `adalora server` once for the tests of a file."""

from __future__ import annotations

import itertools

import pytest
from language_server import LanguageServer
from served_documents import COMMAND


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Return the folder that the editor has open."""
    return tmp_path_factory.mktemp("project")


@pytest.fixture(scope="module")
def server(root):
    """Start a server."""
    with LanguageServer(COMMAND, root, log=root.parent / "log") as process:
        yield process


@pytest.fixture
def new_uri(root, request):
    """Return the names of new documents with a given suffix."""
    numbers = itertools.count()
    folder = root / request.node.name.partition("[")[0]
    return lambda suffix=".json": (folder / f"{next(numbers)}{suffix}").as_uri()
