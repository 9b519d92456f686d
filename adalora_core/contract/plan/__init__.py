"""What a configuration means for a run and for a model: schedule, matched modules, costs."""
