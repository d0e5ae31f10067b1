"""One order, carried out on this host: by apply itself, or by ``cortexd host ACTION`` at the end of an ssh."""

from __future__ import annotations

import os
from collections.abc import Callable

from cortexd import __version__
from cortexd.deploy.host import staging
from cortexd.deploy.host.activate import activate
from cortexd.deploy.host.durable import FOLDER_MODE
from cortexd.deploy.host.layout import Layout, layout_of
from cortexd.deploy.host.lock import host_lock
from cortexd.deploy.host.observe import observe
from cortexd.deploy.host.prepare import prepare
from cortexd.deploy.host.protocol import HostError, Order, Report
from cortexd.deploy.host.ready import ready


def carry_out(order: Order) -> Report:
    """Do it. Raises HostError, whose message names the host; blocks at most about ``order.timeout_s``."""
    try:
        if order.version != __version__:
            raise HostError(
                f"this host has cortexd {__version__}, the one that asks is {order.version}: install the same release"
            )
        layout = layout_of(order)
        if layout.as_root and os.geteuid() != 0:
            raise HostError(f"mode {order.mode} needs root: let `ssh` in fleet.toml be root@HOST, or use user mode")
        if order.action == "observe" or order.action == "ready":
            return _ACTIONS[order.action](order, layout)
        if order.action == "prepare":
            layout.state.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        elif not layout.state.is_dir():
            raise HostError(f"{layout.state} is not there; nothing was prepared on this host")
        with host_lock(layout.state, order.timeout_s):
            staging.check_place(layout)
            return _ACTIONS[order.action](order, layout)
    except HostError as e:
        raise HostError(f"{order.host}: {e}") from e.__cause__
    except OSError as e:
        raise HostError(f"{order.host}: {e.filename or order.state_dir}: {e.strerror or e}") from e


def _prune(order: Order, layout: Layout) -> Report:
    gone = staging.prune(layout, order.keep)
    return Report(order.host, staging.current(layout), detail={"pruned": list(gone)})


_ACTIONS: dict[str, Callable[[Order, Layout], Report]] = {
    "prepare": prepare,
    "activate": activate,
    "ready": ready,
    "observe": observe,
    "prune": _prune,
}
