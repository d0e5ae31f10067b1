"""``cortexd model pull``: a source from elsewhere into the store of this host, and into models.lock."""
