"""The adapter file: the folder that PEFT reads and writes."""
