"""The demo takes clear words from the lexicon and splits them."""

from __future__ import annotations

import pytest

from adalora_core.demo.data import RatedWord, lexicon_path, read_words, split_words


def test_read_words_of_installed_lexicon_finds_all_clear_words_once():
    words = read_words(lexicon_path())
    assert len({word.text for word in words}) == len(words) == 6533
    by_text = {word.text: word.positive for word in words}
    assert by_text["wonderful"] is True
    assert by_text["horrible"] is False


def test_read_words_leaves_out_emoticons_undecided_words_and_repetitions(tmp_path):
    lexicon = tmp_path / "lexicon.txt"
    lexicon.write_text(
        "good\t1.9\t0.9\t[2]\n:)\t2.0\t1.1\t[2]\n\nmeh\t-0.4\t0.5\t[0]\nbad\t-0.5\t0.5\t[-1]\n"
        "good\t-3.0\t0.1\t[-3]\n",
        encoding="utf-8",
    )
    assert read_words(lexicon) == [RatedWord("good", True), RatedWord("bad", False)]


@pytest.mark.parametrize("line", ["good", "good\tvery", "good\t"])
def test_read_words_with_broken_line_names_file_and_line(tmp_path, line):
    lexicon = tmp_path / "lexicon.txt"
    lexicon.write_text(f"bad\t-2.0\n{line}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"lexicon\.txt, line 2: expected .* reinstall"):
        read_words(lexicon)


def test_split_words_is_disjoint_repeatable_and_keeps_its_input():
    words = [RatedWord(str(number), number % 2 == 0) for number in range(50)]
    before = list(words)
    train, held_out = split_words(words, train=30, held_out=20, seed=3)
    assert not set(train) & set(held_out)
    assert (len(train), len(held_out)) == (30, 20)
    assert split_words(words, train=30, held_out=20, seed=3) == (train, held_out)
    assert split_words(words, train=30, held_out=20, seed=4) != (train, held_out)
    assert words == before


def test_split_words_with_too_few_words_says_how_many_are_needed():
    with pytest.raises(ValueError, match=r"has 1 usable words, 2 \+ 1 are needed"):
        split_words([RatedWord("good", True)], train=2, held_out=1, seed=0)
