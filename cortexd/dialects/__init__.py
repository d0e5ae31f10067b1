"""Bytes and JSON of each client dialect to and from ``cortexd.protocol``. Pure: no I/O, no clock, no Falcon.

A dialect has a server side (parse a request, encode events) and a client side (decode a stream). None imports another.
"""
