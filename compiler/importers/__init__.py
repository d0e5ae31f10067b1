"""Configurations of other gateways as a fleet.toml and a models.toml: text in, text and notes out. Pure.

One file per kind reads what it knows and draws both files (``draft``); ``settle`` makes a comment of every line that
the schema refuses. So what comes out is always TOML, and all that the compiler finds wrong is what is left to people.
"""
