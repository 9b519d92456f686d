"""Fixtures for the tests of `adalora server`, asked as an editor asks it."""

from __future__ import annotations

from server_fixtures import new_uri, root, server

__all__ = ["new_uri", "root", "server"]
