"""The only code that runs queries. ``connect`` opens the control database, ``snapshot`` builds what routing reads.

Gateways use the synchronous half (``connect``, ``snapshot``, ``load_requests``, ``ledger``) from a real thread, the
controller the asynchronous one (``observations``).
"""
