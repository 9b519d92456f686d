"""Hold what the processes of one run of the tests share: builds, and the order of files."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from types import SimpleNamespace

import pytest
from built_once import built_once
from file_order import LONGEST, TESTS, longest_first


@pytest.fixture
def worker(tmp_path):
    """Makes the request of a fixture in a worker of a run in `tmp_path`."""

    def request_of(name):
        base = tmp_path / name
        base.mkdir()
        factory = SimpleNamespace(getbasetemp=lambda: base)
        config = SimpleNamespace(workerinput={"workerid": name})
        return SimpleNamespace(getfixturevalue=lambda _: factory, config=config)

    return request_of


def test_two_processes_that_need_a_build_make_one(worker, tmp_path):
    builds, both_ask = [], Event()

    def build(folder):
        assert both_ask.wait(60)
        builds.append(folder)
        (folder / "wheel").write_text("built")

    def ask(request):
        return built_once(request, "wheel", build)

    with ThreadPoolExecutor(2) as processes:
        asked = [processes.submit(ask, worker(name)) for name in ("gw0", "gw1")]
        both_ask.set()
        folders = [each.result(60) for each in asked]
    assert builds == [tmp_path / "wheel"]
    assert folders == 2 * builds
    assert (tmp_path / "wheel" / "wheel").read_text() == "built"


def test_a_build_that_failed_is_made_again_in_an_empty_folder(worker, tmp_path):
    def fail(folder):
        (folder / "half").touch()
        raise RuntimeError("no compiler")

    with pytest.raises(RuntimeError, match="no compiler"):
        built_once(worker("gw0"), "wheel", fail)
    found = built_once(worker("gw1"), "wheel", lambda folder: (folder / "whole").touch())
    assert [each.name for each in found.iterdir()] == ["whole"]
    assert found == tmp_path / "wheel"


def test_the_longest_files_come_first_and_then_those_of_most_tests():
    long = [TESTS / name for name in LONGEST]
    one, many = Path("one.py"), Path("many.py")
    items = [
        SimpleNamespace(path=path, number=number)
        for number, path in enumerate([one, many, long[1], many, *long, one, many])
    ]
    order = longest_first(items)
    paths = [long[0], long[1], *long[1:], many, many, many, one, one]
    assert [item.path for item in order] == paths
    assert [item.number for item in order if item.path == many] == [1, 3, 5 + len(long)]


def test_the_longest_files_exist():
    assert [name for name in LONGEST if not (TESTS / name).is_file()] == []
