"""Usage rows on their way into the database: ``row`` is one, ``writer`` commits them, ``spool`` holds them meanwhile.

Nothing here knows about HTTP. Reports are queries, so they lie in ``store.usage``.
"""
