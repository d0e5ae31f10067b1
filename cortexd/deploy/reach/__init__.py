"""Ways to a host: in this process for the local one, OpenSSH for the others, and all of them at once."""
