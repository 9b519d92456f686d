"""Calls of `adalora_core._cpu`, the compiled core of the CPU, with autograd around them."""
