"""The seam to ONNX Runtime: ``base`` is the contract, ``ort`` the real one, ``fake`` a deterministic one for tests."""
