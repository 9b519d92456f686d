"""Calls of `adalora_core._cuda`, the compiled kernels for NVIDIA GPUs.

Outputs and intermediate results are torch tensors, so torch's allocator owns all memory. Kernels
run on torch's current stream and nothing waits for them.
"""
