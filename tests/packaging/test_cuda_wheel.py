"""The wheel with CUDA kernels: its size, the code inside, and what it prints without a driver."""

from __future__ import annotations

import shutil
import struct
import zipfile
from pathlib import Path

import pytest
from programs import output_of

pytestmark = pytest.mark.nightly

GPUS = {75, 80, 90, 100, 120}
LARGEST_WHEEL = 4_000_000
FAT_BINARY = struct.pack("<I", 0xBA55ED50)
HEADER = struct.Struct("<4sHHQ")  # magic, version, size of this header, size of the entries
ENTRY = struct.Struct("<HHIQIIII")  # kind, -, size of this header, of the code, -, -, -, GPU
PTX, REAL = 1, 2


@pytest.fixture
def module(cuda_wheel: Path, tmp_path: Path) -> Path:
    """The file of `adalora_core._cuda`."""
    with zipfile.ZipFile(cuda_wheel) as archive:
        (name,) = (each for each in archive.namelist() if "/_cuda." in each and each[-3:] == ".so")
        return Path(archive.extract(name, tmp_path))


def code_of(module: bytes) -> dict[int, set[int]]:
    """Return for which GPUs a module holds real code and PTX, from nvcc's container of both."""
    found: dict[int, set[int]] = {PTX: set(), REAL: set()}
    start = module.find(FAT_BINARY)
    while start >= 0:
        _, _, header, size = HEADER.unpack_from(module, start)
        at, end = start + header, start + header + size
        while at < end:
            kind, _, length, code, *_, gpu = ENTRY.unpack_from(module, at)
            found[kind].add(gpu)
            at += length + code
        start = module.find(FAT_BINARY, end)
    return found


def test_the_wheel_is_small(cuda_wheel: Path) -> None:
    assert cuda_wheel.stat().st_size < LARGEST_WHEEL


def test_the_module_holds_code_for_every_gpu_and_ptx_of_the_newest(module: Path) -> None:
    assert code_of(module.read_bytes()) == {REAL: GPUS, PTX: {max(GPUS)}}


def test_the_module_links_no_cuda_library(module: Path) -> None:
    readelf = shutil.which("readelf")
    if readelf is None:
        pytest.skip("no readelf; would have listed what the module links")
    needed = [line for line in output_of(readelf, "-d", module).splitlines() if "NEEDED" in line]
    assert needed
    assert not [line for line in needed if "libcu" in line or "libnv" in line]


def test_the_installed_wheel_names_its_code_without_a_driver(
    must_run, fresh_python: Path, cuda_wheel: Path
) -> None:
    must_run(fresh_python, "-m", "pip", "install", "--quiet", cuda_wheel)
    printed = must_run(fresh_python.parent / "adalora", "env", CUDA_VISIBLE_DEVICES="")
    assert "for sm_75, sm_80, sm_90, sm_100, sm_120 and PTX of compute_120; needs" in printed
    if shutil.which("nvidia-smi") is None:
        assert "no driver is installed; CUDA tensors use the portable backend" in printed
