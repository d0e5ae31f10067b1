"""Two TOML files to a generation: ``parse -> validate -> resolve -> place -> plan -> emit``.

One file and one function of that name per phase; ``pipeline`` reads the disk for them and runs them in order. A user's
mistake is a ``Diagnostic``, never an exception, and every phase reports all that it finds.
"""
