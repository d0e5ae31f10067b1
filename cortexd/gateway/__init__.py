"""HTTP for clients: Falcon on gunicorn, gevent workers. The only Falcon code of the control plane.

``server`` starts it, ``app`` lists the routes, ``chat`` answers, ``exchange`` finds a neuron, ``relay`` passes its
answer on, ``upstream`` speaks HTTP to it. ``core`` holds what a worker's requests share. Nothing is monkey-patched:
sockets are gevent's by name, threads are real.
"""
