"""Measurements that are run by hand or nightly, not with the tests: ``python -m bench.NAME``."""
