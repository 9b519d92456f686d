"""Match regular expressions of foreign files as `re` does, within a bound of time and memory."""
