"""Turn a source into a report, in the same way for the API and the command.

`text.decode` reads the source. `discovery` finds the configurations in it. `assembly` runs the
rules and locates the findings. `inspection` selects, suppresses and fixes for the command.
"""
