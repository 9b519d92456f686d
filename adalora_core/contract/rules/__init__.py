"""Filled by its layer."""
