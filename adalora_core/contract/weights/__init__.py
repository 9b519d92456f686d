"""What a configuration means for a given model, read from the headers of its weights alone."""
