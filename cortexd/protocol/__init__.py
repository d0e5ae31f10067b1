"""Types that gateway, neuron, compiler and agent share. Standard library only; pure.

Start at ``request.py`` (what a client asks), ``events.py`` (what comes back), ``grammar.py`` (in which order),
``errors.py`` (how it fails) and ``manifest.py`` (what an artifact contains).
"""
