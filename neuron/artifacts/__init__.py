"""Artifacts: the files of a model. ``store`` opens and verifies them, ``export`` makes them (extra ``export``)."""
