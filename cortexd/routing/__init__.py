"""Which replica serves a request: pure functions of (snapshot, request, now). No clock, socket or query here.

``snapshot.py`` is what they read, ``choose.py`` decides.
"""
