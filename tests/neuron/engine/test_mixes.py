"""Any mix of requests gives what each gives alone: tokens and logprobs, whenever it comes and others leave."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cortexd.protocol.request import Sampling
from neuron.engine.events import GenerationEnded, TokenEvent, TokenProduced
from neuron.engine.loop import Engine
from neuron.engine.sampler import prepare
from neuron.engine.sequence import EngineRequest
from neuron.session.base import Session, SessionSpec
from neuron.session.fake import FakeSession
from neuron.session.ort import OrtSession
from tests.neuron import tiny_graph

VOCAB = tiny_graph.VOCAB
BASE = tuple((7 * i * i + 3) % VOCAB for i in range(40))
any_tokens = st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=30).map(tuple)
# beginnings that others have too, so that rows are taken over with what they keep
shared = st.builds(lambda n, rest: BASE[:n] + rest, st.integers(16, 40), any_tokens.map(lambda t: t[:8]))
some_tokens = st.one_of(any_tokens, shared, shared)
samplings = st.builds(
    Sampling,
    temperature=st.sampled_from([0.0, 0.7, 1.5]),
    top_p=st.sampled_from([1.0, 0.9]),
    top_k=st.sampled_from([0, 5]),
    min_p=st.sampled_from([0.0, 0.1]),
    seed=st.integers(-5, 1 << 40),
    presence_penalty=st.sampled_from([0.0, 1.0]),
    frequency_penalty=st.sampled_from([0.0, 0.6]),
    repetition_penalty=st.sampled_from([1.0, 1.3]),
    logit_bias=st.sampled_from([(), ((3, 4.0), (9, -100.0))]),
)


@dataclass(frozen=True)
class Request:
    prompt: tuple[int, ...]
    sampling: Sampling
    max_tokens: int
    eos: tuple[int, ...]
    top_logprobs: int | None
    after: int  # steps before it comes
    abort: int | None  # steps before it goes


requests = st.builds(
    Request,
    prompt=some_tokens,
    sampling=samplings,
    max_tokens=st.integers(1, 12),
    eos=st.sampled_from([(), (7,), (7, 8, 20)]),
    top_logprobs=st.sampled_from([None, 0, 3]),
    after=st.integers(0, 12),
    abort=st.sampled_from([None, None, None, 3, 9]),
)
Answer = tuple[list[tuple[int, object]], str | None]


def run(session: Session, mix: dict[str, Request]) -> dict[str, Answer]:
    events: list[TokenEvent] = []
    engine = Engine(session, events.append, iter(range(1 << 30)).__next__)
    for step in range(10_000):
        for name, r in mix.items():
            if r.after == step:
                plan = prepare(r.sampling)
                engine.submit(
                    EngineRequest(name, r.prompt, plan, r.eos, r.max_tokens, 0.0, top_logprobs=r.top_logprobs)
                )
            if r.abort is not None and r.after + r.abort == step:
                engine.abort(name)
        engine.step()
        engine.scheduler.check_integrity()
        if engine.idle and step > 25:
            break
    found: dict[str, Answer] = {}
    for name in mix:
        tokens = [(e.token, e.logprobs) for e in events if isinstance(e, TokenProduced) and e.request_id == name]
        ends = [e for e in events if e.request_id == name and not isinstance(e, TokenProduced)]
        assert len(ends) == 1 and isinstance(ends[0], GenerationEnded), ends
        found[name] = (tokens, ends[0].reason)
    assert (engine.kv.in_use, engine.kv.used, engine.kv.promised) == (0, 0, 0)
    return found


def check(open_session, mix: list[Request], *, exact: bool) -> None:  # type: ignore[no-untyped-def]
    named = {f"r{i}": r for i, r in enumerate(mix)}
    together = run(open_session(3), named)
    for name, request in named.items():
        alone = run(open_session(1), {name: replace(request, abort=None)})[name]
        said, reason = together[name]
        if reason == "abort":
            # how far it came by then depends on the others, but not what it said
            alone = (alone[0][: len(said)], "abort")
        assert ([t for t, _ in said], reason) == ([t for t, _ in alone[0]], alone[1]), name
        for (_, here), (_, there) in zip(said, alone[0], strict=True):
            assert (here is None) == (request.top_logprobs is None)
            if exact:
                assert here == there
            elif here is not None:
                assert here.chosen == pytest.approx(there.chosen, abs=1e-4)  # type: ignore[attr-defined]


def fake(rows: int) -> FakeSession:
    return FakeSession(SessionSpec(Path(), tiny_graph.manifest(), rows, 64, "cpu", 0, 1))


@settings(max_examples=60, deadline=None)
@given(st.lists(requests, min_size=1, max_size=7))
def test_a_mix_gives_what_each_gives_alone(mix: list[Request]) -> None:
    check(fake, mix, exact=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("graph")
    tiny_graph.write(path)
    return path


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(mix=st.lists(requests, min_size=2, max_size=5))
def test_a_mix_on_a_real_graph_gives_what_each_gives_alone(folder: Path, mix: list[Request]) -> None:
    def real(rows: int) -> OrtSession:
        session = OrtSession(SessionSpec(folder, tiny_graph.manifest(), rows, 64, "cpu", 0, 1))
        session.max_chunk = 8
        return session

    check(real, mix, exact=False)
