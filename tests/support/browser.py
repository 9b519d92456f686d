"""Serve the built site on this machine, and open its pages in the system's Chromium."""

from __future__ import annotations

import contextlib
import functools
import http.server
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
SITE = "ADALORA_SITE"
"""Names a built site; without it the tests build one."""


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves files without a log, and can be told to fail or to wait."""

    def __init__(self, *args: Any, faults: Faults, **options: Any) -> None:
        self.faults = faults
        super().__init__(*args, **options)

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        for word, released in list(self.faults.waiting.items()):
            if word in self.path:
                released.wait(300)
        if any(word in self.path for word in self.faults.missing):
            self.send_error(503)
            return
        with contextlib.suppress(ConnectionError):  # the page was closed
            super().do_GET()


class Faults:
    """What a server does to requests with a word in their path."""

    def __init__(self) -> None:
        self.missing: set[str] = set()
        self.waiting: dict[str, threading.Event] = {}


@contextlib.contextmanager
def served(folder: Path) -> Iterator[tuple[str, Faults]]:
    """Serve a folder; yield its address, and the faults to set."""
    faults = Faults()
    handler = functools.partial(Handler, directory=str(folder), faults=faults)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/", faults
        finally:
            for released in faults.waiting.values():
                released.set()
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    """Start a browser.

    Where there is none the test is skipped, saying what it would have proved; in CI that is a
    failure.
    """
    program = next(filter(None, map(shutil.which, NAMES)), None)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        sync_playwright = None
    if program is None or sync_playwright is None:
        what = "playwright (the extra: test)" if program else "Chromium"
        reason = f"would open the built site in a browser; install {what}"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
    with sync_playwright() as playwright:
        # Chromium has no sandbox for root; the pages are our own.
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()
