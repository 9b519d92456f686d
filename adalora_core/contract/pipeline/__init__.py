"""Turn a source into a report, in one way for the API and the command.

`text.decode` reads the source. `discovery` finds the configurations in it. `assembly` runs the
rules and gives findings their places. `inspection` selects and fixes for a run of the command.
"""
