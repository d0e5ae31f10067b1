"""Whether all ports are free, asked before anything starts: one clear line instead of a stack trace from a worker."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable

from cortexd.supervisor.plan import Address, UpError


def check_ports(addresses: Iterable[Address]) -> None:
    """Raises UpError naming every address that cannot be listened on, and the setting that moves it."""
    problems, seen = [], dict[int, Address]()
    for address in addresses:
        twin = seen.setdefault(address.port, address)
        if twin is not address and twin.host == address.host:
            problems.append(f"port {address.port} is given twice: {twin.setting}, and {address.setting}")
            continue
        problem = _problem(address)
        if problem:
            problems.append(f"{problem}; change {address.setting}, then compile and apply")
    if problems:
        raise UpError("\n".join(problems))


def _problem(address: Address) -> str | None:
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as e:
        return f"{address.host} is not an address of this machine ({e.strerror})"
    family, kind, protocol, _, where = found[0]
    with socket.socket(family, kind, protocol) as probe:
        # As servers do it: a port in TIME_WAIT is free, one that somebody listens on is not.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(where)
            probe.listen(1)
        except OSError as e:
            if e.errno == errno.EADDRINUSE:
                return f"port {address.port} on {address.host} is in use"
            return f"cannot listen on {address.host}:{address.port} ({e.strerror})"
    return None
