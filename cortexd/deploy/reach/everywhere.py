"""Every host at once, a bounded number at a time; what each one said, whatever the others did."""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence

from cortexd.deploy.host.protocol import Channel, HostError, Order, Report


def ask_all(pairs: Sequence[tuple[Channel, Order]], bound: int = 8) -> dict[str, Report | HostError]:
    """Ask each channel its order, at most ``bound`` at a time: host -> report or error, in the order of ``pairs``.

    Raises what is no HostError, after all have answered. An interrupt (Ctrl-C) ends what can be ended and is raised at
    once; a host that was asked may still finish on its own.
    """
    todo: queue.SimpleQueue[tuple[int, Channel, Order]] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[int, Report | BaseException]] = queue.SimpleQueue()
    stop = threading.Event()
    for number, (channel, order) in enumerate(pairs):
        todo.put((number, channel, order))

    def work() -> None:
        while not stop.is_set():
            try:
                number, channel, order = todo.get_nowait()
            except queue.Empty:
                return
            try:
                done.put((number, channel.ask(order)))
            except BaseException as e:  # noqa: BLE001 - handed to the thread that waits
                done.put((number, e))

    # daemons: after an interrupt nobody waits for a host that does not answer
    for number in range(min(max(bound, 1), len(pairs))):
        threading.Thread(target=work, name=f"host-{number}", daemon=True).start()
    answers: dict[int, Report | BaseException] = {}
    try:
        while len(answers) < len(pairs):
            number, answer = done.get()
            answers[number] = answer
    except BaseException:
        stop.set()
        for channel, _ in pairs:
            cancel = getattr(channel, "cancel", None)
            if cancel is not None:
                cancel()
        raise
    found: dict[str, Report | HostError] = {}
    for number, (channel, _) in enumerate(pairs):
        answer = answers[number]
        if isinstance(answer, BaseException) and not isinstance(answer, HostError):
            raise answer
        found[channel.host] = answer
    return found
