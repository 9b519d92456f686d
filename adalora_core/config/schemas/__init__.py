"""Generate the published JSON Schemas from the fields and rules."""
