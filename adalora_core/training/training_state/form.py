"""Write tensors and JSON values as one safetensors file that carries a digest of all its bytes."""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from safetensors.torch import load

from adalora_core.contract.reports.escaping import visible
from adalora_core.training.adapter_file.folder import encode_tensors

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

_KEY = "adalora_state"
_DIGEST = re.compile(rb'"adalora_state":"\{\\"digest\\":\\"([0-9a-f]{64})\\"')
"""The digest in the file: the first value of a JSON text in the metadata, another JSON text."""
_ZEROS = "0" * 64
_LENGTH_BYTES = 8


def encode(values: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> bytes:
    """Return the bytes of the file.

    Its digest is the SHA-256 of these bytes, with zeros in place of the digest.
    """
    text = json.dumps({"digest": _ZEROS, **values}, separators=(",", ":"))
    data = encode_tensors(tensors, {_KEY: text})
    start, end = _place_of_digest(data)
    return data[:start] + hashlib.sha256(data).hexdigest().encode() + data[end:]


def decode(data: bytes) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Return values and tensors: the inverse of `encode`.

    Raises:
        ValueError: the bytes are not those of such a file, or not the ones that were written.
    """
    start, end = _place_of_digest(data)
    digest = hashlib.sha256(data[:start] + _ZEROS.encode() + data[end:]).hexdigest()
    if digest.encode() != data[start:end]:
        raise ValueError("it is damaged: its bytes have another digest than the one that it names")
    try:
        tensors = load(data)
        values = json.loads(json.loads(_header(data))["__metadata__"][_KEY])
        del values["digest"]
    except (SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"it is not a training state ({visible(str(error))})") from error
    return values, tensors


def _place_of_digest(data: bytes) -> tuple[int, int]:
    found = _DIGEST.search(_header(data))
    if found is None:
        raise ValueError("it is not a training state, or it is damaged: it names no digest")
    return _LENGTH_BYTES + found.start(1), _LENGTH_BYTES + found.end(1)


def _header(data: bytes) -> bytes:
    length = int.from_bytes(data[:_LENGTH_BYTES], "little")
    return data[_LENGTH_BYTES : _LENGTH_BYTES + length]
