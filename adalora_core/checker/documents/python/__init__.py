"""Read Python scripts and notebooks by their syntax tree; nothing is imported or run."""
