"""The readers of scripts and of YAML know nothing that Python and PyYAML contradict."""

from __future__ import annotations

import datetime as dt
import itertools
import random
import time
import warnings
from pathlib import Path

import pytest
import script_oracle
import yaml_oracle

READ = Path(__file__).parents[2] / "docs" / "contract" / "read.md"
SECONDS = 200
"""Of each search at night; together they take ten minutes."""


def _literal(draw):
    text = script_oracle.literal(draw)
    return text, script_oracle.literal_difference(text)


def _script(draw):
    code = script_oracle.Drawn(draw).script()
    return code, script_oracle.difference(code, draw)


def _yaml(draw):
    text = yaml_oracle.text_of(draw)
    return text, yaml_oracle.difference(text)


READERS = {"literals": _literal, "scripts": _script, "yaml": _yaml}


def _search(reader, seeds):
    found, count = [], 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the drawn code, such as `1 is 1`
        for seed in seeds:
            text, problem = READERS[reader](random.Random(seed))  # noqa: S311 - test data
            count += 1
            if problem is not None:
                found.append(f"seed {seed}: {problem}\n{text!r}")
    assert not found, f"{len(found)} differences\n" + "\n".join(sorted(found, key=len)[:5])
    return count


@pytest.mark.slow
@pytest.mark.parametrize("reader", READERS)
def test_drawn_texts_are_read_as_their_oracle_reads_them(reader):
    _search(reader, range(1_500))


@pytest.mark.nightly
@pytest.mark.parametrize("reader", READERS)
def test_texts_of_the_day_are_read_as_their_oracle_reads_them(reader):
    first = dt.datetime.now(dt.UTC).date().toordinal() << 24
    end = time.monotonic() + SECONDS
    seeds = itertools.takewhile(lambda _: time.monotonic() < end, itertools.count(first))
    count = _search(reader, seeds)
    print(f"{reader}: {count} texts from seed {first}")  # noqa: T201 - for the log


def test_listed_differences_are_those_of_the_page():
    page = " ".join(READ.read_text("utf-8").lower().split())
    assert not [name for name in yaml_oracle.LISTED if name.lower() not in page]
