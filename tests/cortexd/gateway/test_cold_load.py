"""Requests for a model that nobody holds: one load, visible in SQL, and everybody waits for it."""

from __future__ import annotations

import threading
import time
from typing import Any

import httpx
from sqlalchemy import select, update

from cortexd import models as t
from cortexd.store.connect import connect
from tests.cortexd.gateway.conftest import MODEL, Gateway, Make, chat, resident
from tests.cortexd.gateway.fake_neuron import FakeNeuron


def requests(gateway: Gateway) -> list[Any]:
    engine = connect(gateway.url)
    with engine.connect() as connection:
        return list(connection.execute(select(t.LoadRequest)))


def finish(gateway: Gateway, state: str, neuron: str | None = None, error: str | None = None) -> None:
    """What the controller does with the open request."""
    deadline = time.monotonic() + 5
    while not requests(gateway):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.6)
    statements: list[Any] = [
        update(t.LoadRequest).where(t.LoadRequest.open == 1).values(state=state, open=None, neuron=neuron, error=error)
    ]
    if neuron is not None:
        statements.append(resident(neuron))
    gateway.execute(*statements)


def test_two_requests_wait_for_one_load_the_stream_with_keep_alives(neuron: FakeNeuron, make_gateway: Make) -> None:
    gateway = make_gateway({"n1": neuron.url}, loaded=False)
    answers: dict[bool, httpx.Response] = {}
    threads = [
        threading.Thread(target=lambda s=stream: answers.__setitem__(s, gateway.post(chat(stream=s))))
        for stream in (True, False)
    ]
    for thread in threads:
        thread.start()

    finish(gateway, "loaded", "n1")
    for thread in threads:
        thread.join()

    assert len(requests(gateway)) == 1
    assert [answers[s].status_code for s in (True, False)] == [200, 200]
    assert answers[True].text.startswith(": keep-alive\n\n") and answers[True].text.endswith("data: [DONE]\n\n")
    assert [gateway.row(answers[s])["cold_start"] for s in (True, False)] == [1, 1]
    assert gateway.metric("cortex_cold_starts_total", model=MODEL) == 2


def test_a_load_that_fails_is_told_in_the_neurons_words(neuron: FakeNeuron, make_gateway: Make) -> None:
    gateway = make_gateway({"n1": neuron.url}, loaded=False)
    worker = threading.Thread(target=finish, args=(gateway, "failed", None, "model.onnx: wrong sha256"))
    worker.start()

    answer = gateway.post(chat())
    worker.join()

    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "model_load_failed")
    assert "wrong sha256" in answer.json()["error"]["message"]
    assert gateway.row(answer)["outcome"] == "error"


def test_a_load_that_takes_too_long_is_given_up_by_those_who_wait(neuron: FakeNeuron, make_gateway: Make) -> None:
    gateway = make_gateway({"n1": neuron.url}, loaded=False, cold_load_wait_s=0.5)

    plain = gateway.post(chat())
    stream = gateway.post(chat(stream=True))

    assert (plain.status_code, plain.json()["error"]["code"]) == (503, "service_unavailable")
    assert "not loaded after" in stream.text and stream.text.startswith(": keep-alive")


def test_no_room_now_is_told_with_who_is_in_the_way_and_when_to_ask_again(
    neuron: FakeNeuron, make_gateway: Make
) -> None:
    gateway = make_gateway({"n1": neuron.url}, loaded=False)
    worker = threading.Thread(target=finish, args=(gateway, "refused", None, "big would have to leave"))
    worker.start()

    answer = gateway.post(chat())
    worker.join()

    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "no_room")
    assert answer.headers["retry-after"] == "10" and "big would have to leave" in answer.json()["error"]["message"]
