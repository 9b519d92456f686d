"""Headers of safetensors files are read exactly and never trusted."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import tracemalloc
from pathlib import Path

import pytest
from header_files import small_llama, write_header, write_model
from hypothesis import given, settings
from hypothesis import strategies as st

from adalora_core.checker.plan.header import (
    INDEX,
    LARGEST_HEADER,
    TensorInfo,
    read_header,
    read_weights,
)

TENSOR = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def test_sound_file_is_read_to_the_last_shape(tmp_path):
    path = write_model(tmp_path / "model.safetensors", small_llama())
    found = read_header(path)
    assert found["model.layers.1.self_attn.v_proj.weight"] == TensorInfo("F32", (8, 16))
    assert list(found) == list(small_llama())
    assert read_weights(tmp_path) == read_weights(path) == found


def test_file_of_the_library_is_read_as_the_library_reads_it(tmp_path):
    torch = pytest.importorskip("torch", reason="would prove that real files are read")
    from safetensors import safe_open
    from safetensors.torch import save_file

    path = tmp_path / "real.safetensors"
    tensors = {"a.weight": torch.ones(3, 4, dtype=torch.bfloat16), "b": torch.tensor(1.0)}
    save_file(tensors, path, metadata={"format": "pt"})
    with safe_open(path, "np") as file:
        expected = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    assert {name: info.shape for name, info in read_weights(tmp_path).items()} == expected


DAMAGED = {
    "empty": (b"", "not a safetensors file"),
    "seven bytes": (b"\0" * 7, "not a safetensors file"),
    "length of 2**64 - 1": (b"\xff" * 8 + b"{}", "its header alone needs 184467"),
    "longer than the file": ((100).to_bytes(8, "little") + b"{}", "truncated"),
    "a pickle": (b"\x80\x02}q\x00(X\x05\x00\x00\x00" + b"x" * 90, "not a safetensors file"),
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGED)
def test_file_that_is_damaged_is_a_clear_error(case, tmp_path):
    content, words = DAMAGED[case]
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=words) as caught:
        read_header(path)
    assert str(path) in str(caught.value)


HOSTILE = {
    "no json": (b"nonsense", "not valid JSON"),
    "not utf-8": (b'{"\xff": 1}', "not valid JSON"),
    "a list": ([], "should be a JSON object"),
    "nested": (b"[" * 200_000, "nested too deep"),
    "twice": (b'{"a": {}, "a": {}}', "the key 'a' appears twice"),
    "an enormous number": (b'{"a": ' + b"9" * 5000 + b"}", "not valid JSON"),
    "an entry that is a number": ({"a": 1}, "should have a dtype"),
    "no shape": ({"a": {"dtype": "F32", "data_offsets": [0, 8]}}, "should have a dtype"),
    "a negative size": ({"a": TENSOR | {"shape": [-2]}}, "should have a dtype"),
    "a float size": ({"a": TENSOR | {"shape": [2.0]}}, "should have a dtype"),
    "a bool size": ({"a": TENSOR | {"shape": [True]}}, "should have a dtype"),
    "a size of 70 bits": ({"a": TENSOR | {"shape": [2**70]}}, "should have a dtype"),
    "many dimensions": ({"a": TENSOR | {"shape": [1] * 17}}, "should have a dtype"),
    "one offset": ({"a": TENSOR | {"data_offsets": [0]}}, "should have a dtype"),
    "beyond the data": ({"a": TENSOR | {"data_offsets": [0, 9]}}, "truncated or damaged"),
    "backwards": ({"a": TENSOR | {"data_offsets": [8, 0]}}, "truncated or damaged"),
    "another size": ({"a": TENSOR | {"shape": [3]}}, "does not fill its 8 bytes"),
    "shapes that overflow": ({"a": TENSOR | {"shape": [2**62] * 16}}, "does not fill its 8 bytes"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_header_that_is_hostile_is_a_clear_error(case, tmp_path):
    header, words = HOSTILE[case]
    with pytest.raises(ValueError, match=words):
        read_header(write_header(tmp_path / "model.safetensors", header, data=8))


def test_dtype_that_is_not_known_yet_is_taken_as_it_is(tmp_path):
    entry = {"dtype": "F2_NEW", "shape": [64], "data_offsets": [0, 8]}
    path = write_header(tmp_path / "model.safetensors", {"a": entry}, data=8)
    assert read_header(path)["a"] == TensorInfo("F2_NEW", (64,))


def test_weights_themselves_are_never_read(tmp_path):
    path = write_model(tmp_path / "model.safetensors", {"a.weight": ("F32", [1 << 15, 1 << 15])})
    tracemalloc.start()
    try:
        assert read_header(path)["a.weight"].entries == 1 << 30
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_header_above_the_limit_is_refused_unread(tmp_path):
    path = tmp_path / "model.safetensors"
    with path.open("wb") as file:
        file.write((LARGEST_HEADER + 1).to_bytes(8, "little"))
        file.truncate(2 * LARGEST_HEADER)
    with pytest.raises(ValueError, match="more than the limit of 33554432"):
        read_header(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="would prove that a pipe is not waited for")
def test_pipe_is_refused_and_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "model.safetensors")
    with pytest.raises(OSError, match="Not a regular file"):
        read_header(tmp_path / "model.safetensors")


def _sharded(folder, weight_map):
    (folder / INDEX).write_text(json.dumps({"weight_map": weight_map}))
    return folder


def test_shards_are_read_through_their_index(tmp_path):
    write_model(tmp_path / "one.safetensors", {"a.weight": ("F32", [2, 2]), "b": ("F32", [1])})
    write_model(tmp_path / "two.safetensors", {"c": ("F32", [3])})
    weight_map = {"a.weight": "one.safetensors", "c": "two.safetensors"}
    expected = {"a.weight": TensorInfo("F32", (2, 2)), "c": TensorInfo("F32", (3,))}
    assert read_weights(_sharded(tmp_path, weight_map)) == expected
    assert read_weights(tmp_path / INDEX) == expected


@pytest.mark.parametrize(
    "shard", ["../model.safetensors", "/etc/passwd", "a/b.safetensors", "a\\b", "", "..", 3, None]
)
def test_index_that_leads_out_of_its_folder_is_refused(shard, tmp_path):
    with pytest.raises(ValueError, match="beside the index"):
        read_weights(_sharded(tmp_path, {"a": shard}))


def test_index_and_shards_that_disagree_are_an_error(tmp_path):
    write_model(tmp_path / "one.safetensors", {"a": ("F32", [2])})
    with pytest.raises(ValueError, match=r"'b' should be in one\.safetensors, but it is missing"):
        read_weights(_sharded(tmp_path, {"a": "one.safetensors", "b": "one.safetensors"}))
    with pytest.raises(FileNotFoundError):
        read_weights(_sharded(tmp_path, {"a": "gone.safetensors"}))
    (tmp_path / INDEX).write_text("[]")
    with pytest.raises(ValueError, match="should be a JSON object"):
        read_weights(tmp_path)


def test_folder_without_exactly_one_model_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no safetensors file"):
        read_weights(tmp_path)
    only = write_model(tmp_path / "adapter.safetensors", {"a": ("F32", [2])})
    assert read_weights(tmp_path) == read_weights(only)
    write_model(tmp_path / "other.safetensors", {"a": ("F32", [2])})
    with pytest.raises(ValueError, match="2 safetensors files and no index"):
        read_weights(tmp_path)


@settings(max_examples=300)
@given(st.data())
def test_damage_at_any_byte_is_an_error_of_ours_or_none(data):
    with tempfile.TemporaryDirectory() as folder:
        path = write_model(Path(folder) / "model.safetensors", small_llama(layers=1))
        content = bytearray(path.read_bytes())
        for _ in range(data.draw(st.integers(1, 4))):
            place = data.draw(st.integers(0, 700))
            content[place : place + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=3))
        path.write_bytes(content)
        with contextlib.suppress(ValueError):
            for info in read_weights(folder).values():
                assert info.entries >= 0
