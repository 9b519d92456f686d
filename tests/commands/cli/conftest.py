"""Fixtures for the tests of the command, module by module."""

from __future__ import annotations

from command_fixtures import check, in_an_empty_folder, write

__all__ = ["check", "in_an_empty_folder", "write"]
