"""What every importer needs: names, machines, guesses at checkpoints, secrets by reference."""

from __future__ import annotations

import re
from ipaddress import ip_address
from urllib.parse import urlsplit

from compiler.importers.draft import Document, Draft, Table
from compiler.importers.secrets import reference
from compiler.importers.tree import Node

NEURON_PORT = 13131
GATEWAY_HOST = "here"

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_PRECISIONS = (
    (re.compile(r"(?:^|[-_.:])(?:i?q[1-4](?:[_-]?[\w]+)*|int4|awq|gptq|4bit|w4a16)(?:$|[-_.:])", re.I), "int4"),
    (re.compile(r"(?:^|[-_.:])(?:q[5-8](?:[_-]?[\w]+)*|int8|fp8|8bit|w8a8)(?:$|[-_.:])", re.I), "int8"),
    (re.compile(r"(?:^|[-_.:])(?:bf16|f16|fp16|float16|bfloat16)(?:$|[-_.:])", re.I), "fp16"),
    (re.compile(r"(?:^|[-_.:])(?:f32|fp32|float32)(?:$|[-_.:])", re.I), "fp32"),
)


def begin(kind: str, files: list[str]) -> Draft:
    """Both files with nothing in them but where they come from."""
    origin = f"Imported by `cortexd import {kind}` from {', '.join(files)}."
    told = 'Comments that begin with "left out", "guess" or "to do" say what could not be carried over as it was.'
    draft = Draft(Document([origin, told], ("neurons",)), Document([origin, told], ("models",)))
    draft.fleet.table("fleet").put("name", "imported", None, "labels metrics and rows; choose your own")
    for name in ("gateway", "eviction"):
        draft.fleet.table(name)
    return draft


def slug(text: str) -> str:
    """A name of ours that is closest to ``text``; empty if nothing of it can stand in one."""
    return re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-._")[:63].rstrip("-._")


def unique(name: str, taken: set[str]) -> str:
    """``name``, with a number behind it where it is taken. Takes it."""
    found, n = name, 2
    while found in taken:
        found, n = f"{name[:58]}-{n}", n + 1
    taken.add(found)
    return found


class Machines:
    """The [[hosts]] and [[neurons]] that a configuration implies, each once. The gateway's host comes first."""

    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        self._hosts: dict[str, str] = {}
        self._neurons: dict[str, str] = {}
        self._host_names: set[str] = {GATEWAY_HOST}
        self._neuron_names: set[str] = set()
        self._endpoints: set[tuple[str, int]] = set()
        table = draft.fleet.entry("hosts")
        table.put("name", GATEWAY_HOST)
        table.put("address", "127.0.0.1", None, "this machine, which runs gateway and controller")
        self._here = table

    def host(self, machine: str) -> str:
        """The name of the host at this address or DNS name."""
        machine = machine.strip("[]")
        if loopback(machine):
            return GATEWAY_HOST
        if machine not in self._hosts:
            name = unique(slug(machine.split(".")[0] if not _is_ip(machine) else machine) or "host", self._host_names)
            if not self._hosts:
                self._here.remark("to do: give the address at which the other hosts reach this machine")
            self._hosts[machine] = name
            table = self._draft.fleet.entry("hosts")
            table.put("name", name)
            table.put("address", machine)
            table.remark(f'ssh = "USER@{machine}"  # so that `cortexd apply` reaches it; without, run apply there')
        return self._hosts[machine]

    def neuron(self, name: str, machine: str, port: int, node: Node | None, memory_mb: int | None = None) -> str:
        """A neuron on a machine; its name. The devices are for people to fill in."""
        chosen = unique(slug(name) or "neuron", self._neuron_names)
        host = self.host(machine)
        table = self._draft.fleet.entry("neurons")
        table.put("name", chosen, node, f"was {name!r}" if chosen != name else "")
        table.put("host", host)
        bare = machine.strip("[]")
        shown = "127.0.0.1" if loopback(bare) else f"[{bare}]" if ":" in bare else bare
        while (shown, port) in self._endpoints:
            port += 1
        self._endpoints.add((shown, port))
        table.put("endpoint", f"http://{shown}:{port}", node)
        memory = str(memory_mb or 24000)
        table.remark("to do: what this neuron may use (`nvidia-smi` there lists its GPUs), such as")
        table.remark(f'devices = [{{ name = "cuda-0", kind = "cuda", index = 0, memory_mb = {memory} }}]')
        if node is not None:
            self._draft.note("to do", node, f"neuron {chosen}: declare the devices that it may use")
        return chosen

    def for_server(self, url: str, node: Node) -> str | None:
        """The neuron on the machine of an inference server's URL, where cortexd's takes its place; None: no URL."""
        parts = split_url(url)
        if parts is None:
            return None
        machine, _ = parts
        host = self.host(machine)
        if host not in self._neurons:
            name = "local" if host == GATEWAY_HOST else host
            self._neurons[host] = self.neuron(name, machine, NEURON_PORT, node)
        return self._neurons[host]

    def local(self, node: Node) -> str:
        """The neuron on this machine."""
        found = self.for_server("http://127.0.0.1:1", node)
        return found or ""


def split_url(url: str) -> tuple[str, int] | None:
    """Machine and port of an http(s) URL; None if it is none."""
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return None
    if not re.fullmatch(r"[A-Za-z0-9.:_-]+", parts.hostname):
        return None
    return parts.hostname, port or (443 if parts.scheme == "https" else 80)


def _is_ip(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def loopback(machine: str) -> bool:
    """Whether this name or address is the machine itself."""
    if machine.lower() in ("localhost", "0.0.0.0", "::", "host.docker.internal"):  # noqa: S104 (compared, not bound)
        return True
    return _is_ip(machine) and ip_address(machine).is_loopback


def repository(text: str) -> str | None:
    """``org/name`` of a checkpoint, if the text looks like one; for a GGUF repository the one that it was made of."""
    text = text.strip().removeprefix("hf:").removeprefix("huggingface/").removeprefix("https://huggingface.co/")
    text = text.partition(":")[0].rstrip("/")
    if not _REPOSITORY.fullmatch(text) or text.lower().endswith((".gguf", ".bin", ".safetensors", ".py", ".sh")):
        return None
    return re.sub(r"-gguf$", "", text, flags=re.IGNORECASE)


def precision(text: str) -> str | None:
    """The precision that comes closest to a quantisation's name, or to the one in a file's name."""
    return next((name for pattern, name in _PRECISIONS if pattern.search(text)), None)


def put_source(draft: Draft, table: Table, node: Node, guess: str | None, said: str) -> None:
    """The source line: a guess at the checkpoint, or a comment with what to do. ``said`` is what the original has."""
    if guess is None:
        table.remark(f"to do: the checkpoint that {said} was made of, such as")
        table.remark('source = "hf:ORG/NAME@REVISION"  # or path:DIR, a folder made by `cortexd model export`')
        draft.note("to do", node, f"model {table.get('id')}: name its checkpoint as source (the original has {said})")
        return
    table.put("source", f"hf:{guess}@main", node, f"guess, from {said}")
    draft.note("guess", node, f"model {table.get('id')}: source hf:{guess}@main was guessed from {said}")


def put_key(draft: Draft, account: str, name: str, node: Node, taken: set[str]) -> Table:
    """A [[keys]] entry for a secret, by the environment variable that holds it. The secret itself is not copied."""
    table = draft.fleet.entry("keys")
    key_id = unique(slug(name) or "key", taken)
    table.put("id", key_id, node)
    table.put("account", account)
    variable = reference(node.value) if isinstance(node.value, str) else None
    if variable:
        table.put("secret_env", variable, node)
        return table
    # never two underscores: that is how variables override values of fleet.toml
    variable = "CORTEXD_KEY_" + re.sub(r"[\W_]+", "_", key_id).strip("_").upper()
    table.remark("to do: the original holds the secret itself, which is not copied; put it in this variable, or use")
    table.remark('secret_sha256 = "HASH"  # printed by: printf %s "$KEY" | sha256sum')
    table.put("secret_env", variable, node)
    draft.note("to do", node, f"key {key_id}: put the secret into the gateway's environment as {variable}")
    return table
