"""Describe what a script does with an AdaLoRA model: where it trains, steps and allocates."""
