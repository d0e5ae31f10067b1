"""The neuron's HTTP surface: Falcon ASGI on one gunicorn ``asgi`` worker. ``app`` wires, ``server`` runs."""
