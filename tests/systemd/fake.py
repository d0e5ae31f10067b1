"""A tiny generation for the agent: units that only say READY=1 and sleep, and the orders for it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from cortexd.deploy.host.protocol import Action, Mode, Order, Report
from cortexd.deploy.host.wire import decode_report, encode_order
from tests.systemd.machine import PREFIX, Machine

_TARGET = "[Unit]\nDescription=fake fleet\n\n[Install]\nWantedBy={at_boot}.target\n"
_SERVICE = """[Unit]
PartOf=cortexd.target
StartLimitBurst=2
StartLimitIntervalSec=60
[Service]
Type=notify
NotifyAccess=all
Restart=on-failure
RestartSec=0.1
Environment=SETTING={setting}
ExecStart=/bin/sh -c '{script}'
[Install]
WantedBy=cortexd.target
"""
STEADY = "systemd-notify --ready; exec sleep infinity"
BROKEN = "echo password=hunter2; echo cannot open the device >&2; exit 3"


@dataclass
class Generation:
    """``services``: name -> (setting, script). A changed setting changes the hash."""

    services: Mapping[str, tuple[str, str]]
    extra: Mapping[str, str] = field(default_factory=dict)
    ready: Mapping[str, str] = field(default_factory=dict)
    target: bool = True

    def files(self) -> dict[str, bytes]:
        texts = {}
        for variant, at_boot in (("system", "multi-user"), ("user", "default")):
            for name, (setting, script) in self.services.items():
                texts[f"systemd/{variant}/{name}"] = _SERVICE.format(setting=setting, script=script)
            for name, text in self.extra.items():
                texts[f"systemd/{variant}/{name}"] = text
            if self.target:
                texts[f"systemd/{variant}/cortexd.target"] = _TARGET.format(at_boot=at_boot)
        texts["control.toml"] = "[gateway]\n"
        texts["sysusers.d/cortexd.conf"] = "u cortexd - cortexd /var/lib/cortexd\n"
        texts["tmpfiles.d/cortexd.conf"] = "d /var/lib/cortexd/artifacts 0750 cortexd cortexd -\n"
        order = [*(n for n in self.extra if n.endswith(".socket")), *self.services]
        order += [n for n in self.extra if not n.endswith(".socket")] + ["cortexd.target"] * self.target
        texts["host.json"] = json.dumps(
            {
                "schema": 1,
                "fleet": "fake",
                "host": "box",
                "prefix": PREFIX,
                "user_prefix": ".local/share/cortexd",
                "programs": ["cortexd", "neuron"],
                "units": [
                    {
                        "name": name,
                        "kind": name.rpartition(".")[2],
                        "hash": hashlib.sha256(texts[f"systemd/system/{name}"].encode()).hexdigest(),
                        "ready": self.ready.get(name),
                    }
                    for name in order
                ],
            }
        )
        return {name: text.encode() for name, text in texts.items()}

    @property
    def hash(self) -> str:
        return hashlib.sha256(repr(sorted(self.files().items())).encode()).hexdigest()

    def order(self, action: Action, mode: Mode = "system", host: str = "box", **more: object) -> Order:
        fields: dict[str, object] = {"state_dir": "/var/lib/cortexd", "timeout_s": 30.0, **more}
        files = self.files() if action == "prepare" else {}
        return Order(action, host, mode, generation=self.hash, files=files, **fields)  # type: ignore[arg-type]


def ask(machine: Machine, order: Order, user: str | None = None, prefix: str = PREFIX) -> Report:
    """As ssh would, but without it."""
    text = encode_order(order).decode()
    done = machine.run([f"{prefix}/bin/cortexd", "host", order.action], input=text, user=user)
    return decode_report(done.stdout.encode())


def go(machine: Machine, generation: Generation) -> Report:
    """Prepare and activate; the report of the activation."""
    ask(machine, generation.order("prepare"))
    return ask(machine, generation.order("activate"))
