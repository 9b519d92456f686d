"""Work out what a configuration means for a model: schedule, matched modules, costs."""
