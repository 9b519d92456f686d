"""Show the rank of every matrix as a heat map and a table, from a configuration alone."""
