"""All hosts at once: bounded, complete, interruptible."""

from __future__ import annotations

import signal
import threading
import time

import pytest

from cortexd.deploy.host.protocol import HostError, Order, Report
from cortexd.deploy.reach.everywhere import ask_all

ORDER = Order("observe", "", "files", "/nowhere", "aa11")


class Fake:
    """Answers after ``wait`` is set; counts how many are asked at a time."""

    at_once = 0
    most = 0
    lock = threading.Lock()

    def __init__(self, host: str, error: Exception | None = None, wait: threading.Event | None = None) -> None:
        self.host = host
        self.error = error
        self.wait = wait
        self.cancelled = False

    def ask(self, order: Order) -> Report:
        with Fake.lock:
            Fake.at_once += 1
            Fake.most = max(Fake.most, Fake.at_once)
        try:
            if self.wait is not None:
                self.wait.wait(20)
            else:
                time.sleep(0.01)
        finally:
            with Fake.lock:
                Fake.at_once -= 1
        if self.error is not None:
            raise self.error
        return Report(self.host, None)

    def cancel(self) -> None:
        self.cancelled = True


def test_one_failure_hides_no_other_answer() -> None:
    channels = [Fake("a"), Fake("b", HostError("b is down")), Fake("c"), Fake("d", HostError("d is down"))]

    answers = ask_all([(c, ORDER) for c in channels])

    assert list(answers) == ["a", "b", "c", "d"]
    assert {host for host, answer in answers.items() if isinstance(answer, HostError)} == {"b", "d"}


def test_no_more_than_the_bound_are_asked_at_once_and_they_are_asked_in_parallel() -> None:
    Fake.most = 0

    answers = ask_all([(Fake(str(n)), ORDER) for n in range(12)], bound=3)

    assert len(answers) == 12
    assert Fake.most == 3


def test_nobody_to_ask() -> None:
    assert ask_all([]) == {}


def test_a_mistake_of_ours_is_raised_after_all_have_answered() -> None:
    channels = [Fake("a", ZeroDivisionError("ours")), Fake("b")]

    with pytest.raises(ZeroDivisionError):
        ask_all([(c, ORDER) for c in channels])


def test_an_interrupt_ends_the_wait_and_cancels() -> None:
    never = threading.Event()
    channel = Fake("a", wait=never)
    here = threading.get_ident()
    threading.Timer(0.2, lambda: signal.pthread_kill(here, signal.SIGINT)).start()

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        ask_all([(channel, ORDER)])
    never.set()

    assert time.monotonic() - started < 10
    assert channel.cancelled
