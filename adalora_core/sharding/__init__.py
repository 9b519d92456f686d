"""Factors that are divided over processes: the parts, and the penalty over all of them."""
