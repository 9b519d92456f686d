"""Watch training runs, and report what is wrong with them by rules ADA8xx."""
