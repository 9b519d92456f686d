"""Check AdaLoRA configurations in files, scripts and notebooks, without loading torch."""
