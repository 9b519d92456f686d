"""Hold what everything stands on: exceptions, files, numbers, names, places."""
