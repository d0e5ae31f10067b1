"""A generation on disk becomes the live one, on every host, and can be undone.

``generation`` reads and verifies it, ``planning`` says what would change and ``price`` what that costs, ``steps`` are
the steps in the order that survives being killed, ``recover`` finishes what was. ``apply``, ``rollback``, ``pull``,
``history`` and ``drift`` are what the commands do. ``site`` says where things lie; ``hosts`` are the ways to
``host``, what happens on one of them.
"""
