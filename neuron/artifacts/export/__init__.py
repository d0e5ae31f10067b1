"""From a checkpoint to an artifact. The only package that imports torch, transformers and optimum.

``pipeline.export`` does it; ``gqa`` rewrites attention, ``verify`` compares with eager transformers, ``tiny`` makes the
model that ships with cortexd.
"""
