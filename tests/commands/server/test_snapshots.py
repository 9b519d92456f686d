"""Positions of a client and offsets are turned into each other as the protocol counts them."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from adalora_core.commands.server.snapshots import Text, difference

ENCODINGS = st.sampled_from(("utf-8", "utf-16", "utf-32"))
CODECS = {"utf-8": ("utf-8", 1), "utf-16": ("utf-16-le", 2), "utf-32": ("utf-32-le", 4)}
TEXTS = st.text("ab é\U0001f600\ud800\u2028\x0b\x0c\x85\r\n", max_size=30)
POSITIONS = st.tuples(st.integers(0, 12), st.integers(0, 30))


def lines_of(text):
    """Return the lines of a text without their ends, by the words of the protocol."""
    return re.split(r"\r\n|\n|\r", text)


def reference_offset(text, position, encoding):
    """Return the offset of a position, one character after the other."""
    lines = lines_of(text)
    line, units = position
    if line >= len(lines):
        return len(text)
    start = 0
    for each in lines[:line]:
        start += len(each)
        start += 2 if text.startswith("\r\n", start) else 1
    codec, width = CODECS[encoding]
    for count, character in enumerate(lines[line]):
        units -= len(character.encode(codec, "surrogatepass")) // width
        if units < 0:
            return start + count
    return start + len(lines[line])


@given(encoding=ENCODINGS, text=TEXTS, position=POSITIONS)
def test_offset_of_a_position(encoding, text, position):
    assert Text.of(text).offset(position, encoding) == reference_offset(text, position, encoding)


@given(encoding=ENCODINGS, text=TEXTS, number=st.integers(0, 30))
def test_position_of_an_offset_leads_back(encoding, text, number):
    offset = min(number, len(text))
    inside = text[offset - 1 : offset + 1] == "\r\n" if offset else False
    position = Text.of(text).position(offset, encoding)
    assert Text.of(text).offset(position, encoding) == offset - inside


@given(
    encoding=ENCODINGS,
    text=TEXTS,
    edits=st.lists(st.tuples(POSITIONS, POSITIONS, TEXTS), max_size=4),
)
def test_edited_text_is_that_of_the_protocol(encoding, text, edits):
    edited = Text.of(text)
    for one, other, new in edits:
        start, end = sorted(reference_offset(text, each, encoding) for each in (one, other))
        text = text[:start] + new + text[end:]
        edited = edited.edited(one, other, new, encoding)
        assert str(edited) == text
        assert edited.position(len(text), encoding) == Text.of(text).position(len(text), encoding)


def test_edit_between_the_parts_of_a_line_end_joins_them():
    text = Text.of("a\rxx\nb").edited((1, 0), (1, 2), "", "utf-16")
    assert str(text) == "a\r\nb"
    assert text.position(3, "utf-16") == (1, 0)


@given(TEXTS, TEXTS)
def test_difference_makes_one_text_of_the_other(old, new):
    start, end, replacement = difference(old, new)
    assert 0 <= start <= end <= len(old)
    assert old[:start] + replacement + old[end:] == new
    for at in (start, end):
        assert at == 0 or old[at - 1 : at + 1] != "\r\n"


def test_difference_leaves_out_what_is_equal():
    assert difference("init_r: 12.0\nx", "init_r: 12\nx") == (10, 12, "")
