"""How the ops reach `adalora_core._cuda`, the compiled kernels for NVIDIA GPUs.

Outputs and the room between two stages are torch tensors, so that torch's allocator owns all
memory; kernels go to torch's current stream and nothing waits for them.
"""
