"""Orders and reports survive the way over ssh; what is neither is refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cortexd.deploy.host.protocol import HostError, Order, Report, UnitState
from cortexd.deploy.host.wire import decode_order, decode_report, encode_order, encode_report

ORDER = Order(
    "prepare", "box", "system", "/var/lib/cortexd", "aa11", files={"b": b"\x00\xff", "a/c": b""}, keep=("x", "y")
)


def test_an_order_comes_out_as_it_went_in() -> None:
    assert decode_order(encode_order(ORDER)) == ORDER


def test_a_report_comes_out_as_it_went_in_after_what_a_login_script_prints() -> None:
    report = Report(
        "box", "aa11", (("u", "restarted"),), (UnitState("u", "active", 7, "h", None),), {"a": "b"}, ("p",), {"d": [1]}
    )

    assert decode_report(b"welcome\n\n" + encode_report(report)) == report


@given(st.dictionaries(st.text(), st.binary()), st.text())
def test_any_bytes_may_be_sent(files: dict[str, bytes], name: str) -> None:
    order = Order("prepare", name, "files", "~/x", "aa", files=files)

    assert decode_order(encode_order(order)) == order


@pytest.mark.parametrize(
    "change",
    [{"action": "destroy"}, {"mode": "x"}, {"files": {"a": "?"}}, {"files": []}, {"host": 3}, {"keep": None}],
)
def test_what_is_no_order_is_refused(change: dict[str, object]) -> None:
    said = {**json.loads(encode_order(ORDER)), **change}

    with pytest.raises(HostError, match="holds no order"):
        decode_order(json.dumps(said).encode())


def test_an_order_of_another_schema_is_refused_with_both_named() -> None:
    said = {**json.loads(encode_order(ORDER)), "schema": 9}

    with pytest.raises(HostError, match="schema 9, this host reads 1"):
        decode_order(json.dumps(said).encode())


@pytest.mark.parametrize("text", [b"", b"hello", b"{}", b'{"schema": 2}', b"[]"])
def test_what_is_no_report_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError):
        decode_report(text)
