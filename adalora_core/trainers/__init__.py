"""Fit into trainers and launchers: transformers, optimizers, ZeRO, torch.distributed."""
