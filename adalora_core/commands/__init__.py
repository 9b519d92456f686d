"""Hold what is run rather than imported: command line, language server, reports of ranks."""
