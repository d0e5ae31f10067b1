"""How the neuron does, for the service manager: loading, ready, getting on, or ending because a device failed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping

from cortexd.notify import Notifier
from neuron.device.thread import LOAD_LIMIT_S, DeviceThread
from neuron.residents import Residents
from neuron.settings import NeuronSettings

# The exit status of a process whose device failed for good, and whose other devices have drained.
DEVICE_FAILED = 77
# A device that did not get on for so long does not feed the watchdog any more.
STALL_S = 30.0
_LOOK_S = 1.0
_ASK_S = 0.1
# While a model loads, the start may take this much longer; said again this often.
_EXTEND_S, _EXTEND_EVERY_S = 30.0, 5.0
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104

_log = logging.getLogger("neuron")


class Vitals:
    """Lives on the event loop. ``end`` is called once with the exit status, when the process should end itself."""

    def __init__(
        self,
        settings: NeuronSettings,
        residents: Residents,
        devices: Mapping[str, DeviceThread],
        notifier: Notifier,
        end: Callable[[int], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._residents = residents
        self._devices = devices
        self._notifier = notifier
        self._end = end
        self._clock = clock
        self._step: tuple[str, int | None] | None = None
        self._step_at = 0.0
        self._extended_at = -_EXTEND_EVERY_S

    async def run(self) -> None:
        """Until a device fails; else for ever."""
        try:
            await self._run()
        except Exception:
            _log.exception("nobody watches the devices any more")  # and nobody feeds the watchdog
            raise

    async def _run(self) -> None:
        while self._residents.activating and not self._failed():
            self._while_loading()
            await asyncio.sleep(_ASK_S)
        while not await answers(self._settings.listen) and not self._failed():  # noqa: ASYNC110 (no event of ours)
            await asyncio.sleep(_ASK_S)
        if not self._failed():
            self._notifier.ready(self._serving())
        while not self._failed():
            if all(device.stalled_s() < STALL_S for device in self._devices.values()):
                self._notifier.feed()
            self._notifier.status(self._serving())
            await asyncio.sleep(_LOOK_S)
        await self._drain()
        self._end(DEVICE_FAILED)

    def _failed(self) -> list[str]:
        return [name for name, device in self._devices.items() if device.poisoned]

    def _while_loading(self) -> None:
        """More time to start, as long as an artifact arrives or a load may still end."""
        slot = next((slot for slot in self._residents.slots.values() if slot.state == "loading"), None)
        if slot is None:
            return
        now, transfer = self._clock(), slot.transfer
        text = f"loading {slot.settings.id}"
        if transfer is not None and transfer.bytes_total:
            text = f"fetching {slot.settings.id}, {100 * transfer.bytes_done // transfer.bytes_total} %"
        self._notifier.status(text)
        step = (slot.settings.id, transfer.bytes_done if transfer else None)
        if step != self._step:
            self._step, self._step_at = step, now
        if now - self._step_at < LOAD_LIMIT_S and now - self._extended_at >= _EXTEND_EVERY_S:
            self._extended_at = now
            self._notifier.extend(_EXTEND_S)

    def _serving(self) -> str:
        states = [slot.state for slot in self._residents.slots.values()]
        loaded, failed = states.count("loaded"), states.count("failed")
        text = f"serving {loaded} model{'' if loaded == 1 else 's'}"
        return f"{text}; {failed} failed to load" if failed else text

    async def _drain(self) -> None:
        """The devices that work end what they have, for at most ``drain_s``; they take nothing new."""
        failed = self._failed()
        others = [device for name, device in self._devices.items() if name not in failed]
        text = f"{', '.join(failed)} failed; ending"
        self._notifier.status(text)
        _log.critical("%s once the other devices are done, at most in %g s", text, self._settings.drain_s)
        for device in others:
            device.hold(f"the neuron starts again, because {', '.join(failed)} failed")
        until = self._clock() + self._settings.drain_s
        while self._clock() < until and any(device.busy and not device.poisoned for device in others):
            self._notifier.feed()
            await asyncio.sleep(_ASK_S)


async def answers(listen: str) -> bool:
    """Whether something speaks HTTP on that address, as seen from this machine."""
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    try:
        async with asyncio.timeout(2):
            reader, writer = await asyncio.open_connection(_ANY.get(host, host), int(port))
            try:
                writer.write(b"GET /version HTTP/1.1\r\nHost: neuron\r\nConnection: close\r\n\r\n")
                return (await reader.readline()).startswith(b"HTTP/1.1 ")
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
    except (OSError, TimeoutError):
        return False
