"""What the live generation says about keys, models, limits and fallbacks is what the gateway does."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import delete, insert, update

from cortexd import models as t
from tests.cortexd.gateway.conftest import MODEL, SECRET, Make, chat, healthy, unload
from tests.cortexd.gateway.fake_neuron import Behaviour, FakeNeuron
from tests.cortexd.gateway.test_cold_load import finish

G = "g" * 64
SPARE = "spare"


def settings(model: str, **values: Any) -> Any:
    return update(t.Model).where(t.Model.id == model).values(settings=values)


def key(key_id: str, secret_ref: str, **values: Any) -> Any:
    row = {"generation": G, "key_id": key_id, "account": "acme", "secret_hash": None, "settings": values}
    return insert(t.Key).values(secret_ref=secret_ref, **row)


def spare(neuron: str, *, loaded: bool = True) -> list[Any]:
    """Another chat model, on one neuron."""
    row = {
        "generation": G, "artifact": "x", "manifest_sha256": "0" * 64, "max_sequences": 4, "weight_bytes": 1,
        "kv_bytes": 1, "need_bytes": 2, "residency_priority": 100, "settings": {}, "task": "chat", "context": 99,
        "pinned": False,
    }  # fmt: skip
    place = {"generation": G, "model": SPARE, "neuron": neuron, "rank": 0, "pinned": False, "reason": ""}
    held = {"neuron": neuron, "state": "loaded", "in_flight": 0, "queue_depth": 0, "since": 1.0, "error": None}
    rows = [insert(t.Model).values(id=SPARE, **row), insert(t.Placement).values(devices=["cpu-0"], **place)]
    return [*rows, insert(t.Resident).values(model=SPARE, **held)] if loaded else rows


@pytest.fixture
def second() -> Iterator[FakeNeuron]:
    with FakeNeuron() as started:
        yield started


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def test_keys_by_reference_work_change_without_a_restart_and_show_when_they_do_not(
    neuron: FakeNeuron, make_gateway: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_CLIENT_KEY", "sk-of-env")
    path = tmp_path / "key"
    gateway = make_gateway({"n1": neuron.url}, start=False, require_auth=True)
    gateway.execute(key("env", "env:TEST_CLIENT_KEY"), key("file", f"file:{path}"), key("cred", "credential:no"))
    gateway.start()

    answer = gateway.post(chat(), headers=bearer("sk-of-env"))
    assert answer.status_code == 200 and gateway.row(answer)["key_id"] == "env"
    assert gateway.post(chat(), headers=bearer(SECRET)).status_code == 200
    assert gateway.post(chat(), headers=bearer("sk-one")).status_code == 401
    assert httpx.get(gateway.base + "/ready").json()["unresolved_keys"] == 2
    path.write_text("sk-one\n")
    time.sleep(1)
    assert gateway.post(chat(), headers=bearer("sk-one")).status_code == 200
    path.write_text("sk-other\n")
    time.sleep(1)
    assert gateway.post(chat(), headers=bearer("sk-one")).status_code == 401
    assert gateway.post(chat(), headers=bearer("sk-other")).status_code == 200
    metrics = httpx.get(gateway.metrics + "/metrics").text
    assert "\ncortex_unresolved_keys 1.0\n" in metrics
    assert gateway.log.count("key cred does not work") == 1
    assert not any(secret in gateway.log + metrics for secret in ("sk-of-env", "sk-one", "sk-other"))


def test_a_key_with_models_may_use_and_see_only_those(neuron: FakeNeuron, make_gateway: Make) -> None:
    gateway = make_gateway({"n1": neuron.url})
    gateway.execute(*spare("n1"), update(t.Key).values(settings={"models": ["default"]}))

    assert gateway.post(chat(), headers=bearer(SECRET)).status_code == 200
    assert gateway.post(chat() | {"model": SPARE}).status_code == 200  # nobody's key
    refused = gateway.post(chat() | {"model": SPARE}, headers=bearer(SECRET))
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "insufficient_permissions")
    row = gateway.row(refused)
    assert (row["key_id"], row["model"], row["error_code"]) == ("k1", SPARE, "insufficient_permissions")
    listed = httpx.get(gateway.base + "/v1/models", headers=bearer(SECRET)).json()["data"]
    assert {entry["id"] for entry in listed} == {MODEL, "default"}
    assert httpx.get(gateway.base + f"/v1/models/{SPARE}", headers=bearer(SECRET)).status_code == 404
    assert httpx.get(gateway.base + f"/v1/models/{SPARE}").status_code == 200


def test_limits_are_listed_and_a_longer_answer_is_refused(neuron: FakeNeuron, make_gateway: Make) -> None:
    gateway = make_gateway({"n1": neuron.url})
    cost = {"input": 0.5, "output": 2}
    gateway.execute(settings(MODEL, limits={"input": 900, "output": 50}, cost=cost, capabilities=["tools"]))

    entry = httpx.get(gateway.base + f"/v1/models/{MODEL}").json()
    assert entry["limit"] == {"context": 4096, "input": 900, "output": 50}
    assert (entry["cost"], entry["capabilities"]) == (cost, ["tools"])
    assert "cost" not in httpx.get(gateway.base + "/v1/models/tiny-embed").json()
    assert gateway.post(chat(max_tokens=50)).status_code == 200
    refused = gateway.post(chat(max_tokens=51))
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "max_tokens")
    assert len(neuron.seen) == 1


def test_a_fallback_answers_when_no_neuron_of_the_model_is_reachable(
    neuron: FakeNeuron, second: FakeNeuron, make_gateway: Make
) -> None:
    gateway = make_gateway({"n1": neuron.url, "n2": second.url})
    gateway.execute(
        *spare("n2"),
        settings(MODEL, fallback=["nobody", "tiny-embed", SPARE]),
        delete(t.Placement).where(t.Placement.neuron == "n2", t.Placement.model == MODEL),
        delete(t.Resident).where(t.Resident.model == MODEL, t.Resident.neuron == "n2"),
    )
    usual = gateway.post(chat())
    gateway.execute(healthy("n1", False))

    answer, stream = gateway.post(chat()), gateway.post(chat(stream=True) | {"model": "default"})

    assert (usual.headers["x-cortexd-model"], usual.status_code) == (MODEL, 200)
    for response, asked in ((answer, MODEL), (stream, "default")):
        assert (response.status_code, response.headers["x-cortexd-model"]) == (200, SPARE)
        row = gateway.row(response)
        assert (row["requested_model"], row["model"], row["neuron"]) == (asked, SPARE, "n2")
    assert b'"model":"spare"' in second.seen[0].body
    assert gateway.metric("cortex_fallbacks_total", model=SPARE) == 2


def test_a_fallback_answers_when_the_load_fails(neuron: FakeNeuron, second: FakeNeuron, make_gateway: Make) -> None:
    gateway = make_gateway({"n1": neuron.url, "n2": second.url}, loaded=False)
    gateway.execute(*spare("n2"), settings(MODEL, fallback=[SPARE]))
    worker = threading.Thread(target=finish, args=(gateway, "failed", None, "wrong sha256"))
    worker.start()
    answer = gateway.post(chat(stream=True))
    worker.join()

    assert answer.text.startswith(": keep-alive") and answer.text.endswith("data: [DONE]\n\n")
    row = gateway.row(answer)
    assert (row["model"], row["outcome"], row["cold_start"]) == (SPARE, "ok", 1)


def test_what_the_client_can_change_never_falls_back(neuron: FakeNeuron, make_gateway: Make) -> None:
    gateway = make_gateway({"n1": neuron.url})
    gateway.execute(*spare("n1"), settings(MODEL, fallback=[SPARE], limits={"output": 5}))
    neuron.behaviour = Behaviour(status=400)

    assert gateway.post(chat()).status_code == 400
    assert gateway.post(chat(max_tokens=6)).status_code == 400
    assert [b'"spare"' in seen.body for seen in neuron.seen] == [False]


def test_without_a_fallback_that_can_answer_the_client_hears_of_the_model_it_asked_for(
    neuron: FakeNeuron, make_gateway: Make
) -> None:
    gateway = make_gateway({"n1": neuron.url})
    statements = [*spare("n1", loaded=True), settings(MODEL, fallback=[SPARE])]
    gateway.execute(*statements, update(t.Key).values(settings={"models": [MODEL]}))
    neuron.behaviour = Behaviour(status=500)

    refused = gateway.post(chat())
    assert refused.status_code == 500 and len(neuron.seen) == 2  # both were asked
    row = gateway.row(refused)
    assert (row["model"], row["neuron"], row["outcome"]) == (MODEL, "n1", "error")
    gateway.post(chat(), headers=bearer(SECRET))
    assert len(neuron.seen) == 3  # the key may not use the fallback
    gateway.execute(unload(), healthy("n1", False))
    answer = gateway.post(chat())
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "service_unavailable")
