"""The published JSON Schemas, generated from the fields and rules."""
