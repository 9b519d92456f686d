"""Turn a source into a report, in the same way for the API and the command.

`documents.decode` reads the source. `discovery` finds the configurations in it. `inspection` runs
the rules and locates the findings; for the command it also selects, suppresses and fixes.
"""
