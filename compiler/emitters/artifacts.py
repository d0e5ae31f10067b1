"""How a neuron comes by its artifacts: from its host's disk, or by content from the gateway's host. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from compiler.emitters.addresses import join, split
from compiler.ir import Fleet, Model, Neuron
from cortexd.artifacts.store import SCHEME

# As seen from the folder of STATE/etc/neurons/NAME.toml.
STORE = "../../artifacts"


def artifact_for(model: Model, neuron: Neuron, fleet: Fleet) -> str:
    """What ``neuron.toml`` names: a folder of the gateway's host is there only, so others get it by content."""
    if neuron.host == fleet.gateway_host or model.artifact.startswith("builtin:"):
        return model.artifact
    return f"{SCHEME}{model.manifest_sha256}"


def supply(artifacts: Iterable[str], neuron: Neuron, fleet: Fleet) -> dict[str, str]:
    """The keys of ``neuron.toml`` that say where artifacts by content are; none where it has no such."""
    if not any(artifact.startswith(SCHEME) for artifact in artifacts):
        return {}
    found = {"artifact_store": STORE}
    if neuron.host != fleet.gateway_host:
        found["artifact_url"] = f"http://{serving_address(fleet)}/artifacts"
    return found


def serving_address(fleet: Fleet) -> str:
    """HOST:PORT at which other hosts reach the gateway's metrics address."""
    host, port = split(fleet.gateway["metrics_listen"])
    if host in ("", "0.0.0.0", "::"):  # noqa: S104 (compared, not bound)
        host = next(h.address for h in fleet.hosts if h.name == fleet.gateway_host).strip("[]")
    return join(host, port)


def served_folders(fleet: Fleet) -> list[str]:
    """Folders that the gateway reads for neurons on other hosts."""
    if all(neuron.host == fleet.gateway_host for neuron in fleet.neurons):
        return []
    return sorted({model.artifact for model in fleet.models if model.artifact.startswith("/")})
