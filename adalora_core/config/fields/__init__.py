"""Describe the fields of a configuration and the values that they can have."""
