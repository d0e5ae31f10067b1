"""The engine over a session that notices a wrong row, position or chunk, and over the real one."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest

from cortexd.protocol.request import Sampling
from neuron.engine.events import GenerationEnded, GenerationFailed, TokenEvent, TokenProduced
from neuron.engine.loop import Engine
from neuron.engine.sampler import prepare
from neuron.engine.sequence import EngineRequest
from neuron.session.base import Session, SessionError, SessionSpec
from neuron.session.fake import FakeSession
from neuron.session.ort import OrtSession
from tests.neuron import tiny_graph

GREEDY = Sampling(temperature=0.0)


class Clock:
    """Each look at it is a second later."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


class Bench:
    def __init__(self, session: Session) -> None:
        self.events: list[TokenEvent] = []
        self.engine = Engine(session, self.events.append, Clock())

    def submit(self, name: str, prompt: tuple[int, ...], sampling: Sampling = GREEDY, max_tokens: int = 8) -> None:
        self.engine.submit(
            EngineRequest(name, prompt, prepare(sampling), (tiny_graph.EOS,), max_tokens, 0.0, entropy=len(name))
        )

    def finish(self) -> dict[str, list[int]]:
        while not self.engine.idle:
            self.engine.step()
            self.engine.scheduler.check_integrity()
        answers = defaultdict(list)
        for event in self.events:
            if isinstance(event, TokenProduced):
                answers[event.request_id].append(event.token)
        return answers


def fake(rows: int = 4) -> FakeSession:
    return FakeSession(SessionSpec(Path(), tiny_graph.manifest(), rows, 64, "cpu", 0, 1))


@pytest.fixture(params=["fake", "onnxruntime"])
def open_session(request: pytest.FixtureRequest, tmp_path: Path):  # type: ignore[no-untyped-def]
    if request.param == "fake":
        return fake

    def real(rows: int = 4) -> OrtSession:
        session = OrtSession(SessionSpec(tmp_path, tiny_graph.write(tmp_path), rows, 64, "cpu", 0, 1))
        session.max_chunk = 8
        return session

    return real


PROMPTS = {
    "long": tuple(range(1, 45)),
    "short": (5, 4, 3),
    "one": (17,),
    "middle": tuple(range(30, 10, -1)),
    "late": (2, 2, 8, 9),
    "later": tuple(range(12, 40)),
}


def alone(open_session, name: str, sampling: Sampling = GREEDY) -> list[int]:  # type: ignore[no-untyped-def]
    bench = Bench(open_session(1))
    bench.submit(name, PROMPTS[name], sampling)
    return bench.finish()[name]


def test_a_mix_gives_every_request_the_tokens_it_gets_alone(open_session) -> None:  # type: ignore[no-untyped-def]
    session = open_session(3)
    bench = Bench(session)
    # six requests for three rows; "short" is aborted, so a row idles below a running one, and rows are used again
    for name in ("short", "long", "one", "middle"):
        bench.submit(name, PROMPTS[name])
    for _ in range(4):
        bench.engine.step()
    bench.engine.abort("short")
    for _ in range(3):
        bench.engine.step()
    bench.submit("late", PROMPTS["late"])
    bench.submit("later", PROMPTS["later"])

    together = bench.finish()

    for name in ("long", "one", "middle", "late", "later"):
        assert together[name] == alone(open_session, name), name
        assert together[name]


def test_the_same_seed_gives_the_same_text_whatever_else_runs(open_session) -> None:  # type: ignore[no-untyped-def]
    seeded = Sampling(temperature=1.3, top_p=0.95, seed=42)
    bench = Bench(open_session(3))
    bench.submit("short", PROMPTS["short"], Sampling(temperature=2.0))
    bench.submit("middle", PROMPTS["middle"], seeded)
    bench.submit("long", PROMPTS["long"])

    together = bench.finish()

    assert together["middle"] == alone(open_session, "middle", seeded)
    assert together["middle"] != alone(open_session, "middle", Sampling(temperature=1.3, top_p=0.95, seed=43))


def test_an_abort_frees_the_row_within_one_step() -> None:
    bench = Bench(fake(rows=1))
    bench.submit("a", PROMPTS["long"], max_tokens=20)
    bench.submit("b", PROMPTS["one"])
    for _ in range(3):
        bench.engine.step()

    bench.engine.abort("a")
    bench.engine.step()

    ended = [e for e in bench.events if isinstance(e, GenerationEnded)]
    assert [(e.request_id, e.reason, e.prompt_tokens, e.completion_tokens) for e in ended] == [("a", "abort", 24, 0)]
    assert bench.events[-1] == TokenProduced("b", bench.finish()["b"][0])


def test_an_abort_while_waiting_and_one_of_nobody_are_harmless() -> None:
    bench = Bench(fake(rows=1))
    bench.submit("a", PROMPTS["one"])
    bench.submit("b", PROMPTS["short"])
    bench.engine.step()
    bench.engine.abort("b")
    bench.engine.abort("nobody")

    assert list(bench.finish()) == ["a"]
    assert [e.reason for e in bench.events if isinstance(e, GenerationEnded)] == ["abort", "length"]


def test_times_and_counts_add_up() -> None:
    bench = Bench(fake())
    bench.submit("a", PROMPTS["middle"], max_tokens=3)

    bench.finish()

    end = bench.events[-1]
    assert isinstance(end, GenerationEnded)
    assert (end.prompt_tokens, end.completion_tokens, end.cached_tokens, end.reason) == (20, 3, 0, "length")
    # the clock moves two seconds a step: three chunks of eight, then two tokens
    assert (end.queue_s, end.prefill_s, end.decode_s) == (1.0, 5.0, 4.0)
    assert bench.engine.steps == 5


def test_a_request_that_cannot_run_ends_with_the_reason() -> None:
    bench = Bench(fake())
    bench.submit("a", tuple(range(64)))

    bench.finish()

    assert bench.events == [GenerationFailed("a", "the prompt has 64 tokens; a context of 64 takes 1 to 63", 0, 0)]


def test_after_a_fault_every_request_gets_its_end() -> None:
    session = fake(rows=1)
    bench = Bench(session)
    bench.submit("a", PROMPTS["short"])
    bench.submit("b", PROMPTS["one"])
    bench.engine.step()
    session.fault = SessionError("boom")

    with pytest.raises(SessionError, match="boom"):
        bench.engine.step()
    bench.engine.fail_all("sorry")

    assert bench.events[1:] == [GenerationFailed("a", "sorry", 3, 1), GenerationFailed("b", "sorry", 0, 0)]
    assert bench.engine.idle
