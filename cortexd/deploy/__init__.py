"""A generation on disk becomes the live one.

``generation`` reads and verifies it, ``migrate`` brings the database up to date, ``rows`` switches in one transaction,
``files`` puts the host's files in place, ``apply`` does all of it in the order that survives being killed.
"""
