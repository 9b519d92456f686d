"""Serve editors: the findings of `adalora check` over the Language Server Protocol."""
