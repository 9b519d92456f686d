"""Judge and hold a configuration: a mapping in, findings and a typed model out."""
