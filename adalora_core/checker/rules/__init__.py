"""Hold the rules on texts, scripts, tools and policies."""
