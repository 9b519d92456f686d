"""Serve packages from a folder as a package index does, and install from this index alone."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

HOST = "127.0.0.1"
NOWHERE = f"http://{HOST}:9"
"""The discard port: a proxy through which no other host is reached."""
SETTINGS = ("ADALORA_", "PIP_", "PIPX_", "PRE_COMMIT", "PYTHON", "TWINE_", "UV_", "VIRTUAL_ENV")
MOST_TRIES = 1200


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve the files of `folder`, take uploads into it, ask no other index; yield the address."""
    with socket.socket() as free:
        free.bind((HOST, 0))
        port = free.getsockname()[1]
    settings = ["-i", HOST, "-p", str(port), "--disable-fallback", "-P", ".", "-a", "."]
    log = folder.with_suffix(".log")
    with log.open("w") as out:
        command = [sys.executable, "-m", "pypiserver", "run", *settings, str(folder)]
        server = subprocess.Popen(command, stdout=out, stderr=out)
    try:
        _wait(server, port, log)
        yield f"http://{HOST}:{port}"
    finally:
        server.terminate()
        server.wait()


def _wait(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    for _ in range(MOST_TRIES):
        if server.poll() is not None:
            break
        with contextlib.suppress(OSError), urlopen(f"http://{HOST}:{port}/", timeout=300):
            return
        time.sleep(0.1)
    raise AssertionError(log.read_text())


def knowing_only(address: str, home: Path) -> dict[str, str]:
    """Return an environment whose installers have an empty home, and the index at `address`."""
    inherited = {
        name: value for name, value in os.environ.items() if not name.upper().startswith(SETTINGS)
    }
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), NOWHERE)
    proxies |= {name.upper(): value for name, value in proxies.items()}
    return inherited | proxies | {
        "no_proxy": HOST,
        "NO_PROXY": HOST,
        "NO_COLOR": "1",
        "HOME": str(home),
        "XDG_CACHE_HOME": str(home / "cache"),
        "XDG_CONFIG_DIRS": str(home),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_INDEX_URL": f"{address}/simple/",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIPX_HOME": str(home / "pipx"),
        "PRE_COMMIT_HOME": str(home / "pre-commit"),
        "UV_DEFAULT_INDEX": f"{address}/simple/",
        "UV_NO_CONFIG": "1",
        "UV_PYTHON_DOWNLOADS": "never",
        "VIRTUALENV_NO_DOWNLOAD": "1",
    }  # fmt: skip
