"""The inference engine: which rows run next, and which token comes out. Pure: numpy and protocol, time is an argument.

Read ``loop.py`` first; then ``scheduler.py``, ``kv.py``, ``sampler.py``, ``sequence.py``, ``detokenize.py``.
"""
