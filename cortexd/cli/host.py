"""``cortexd host``: what ``cortexd apply`` calls on the other hosts over ssh. Needs no extra."""

from __future__ import annotations

import sys
from typing import get_args

import click

from cortexd.deploy.host.protocol import Action


@click.command("host")
@click.argument("action", type=click.Choice(get_args(Action)))
def host_command(action: str) -> None:
    """Carry out one step of an apply on this host.

    For `cortexd apply`, which calls it over ssh: an order comes as JSON on standard input, the report leaves as JSON on
    standard output. Steps: prepare, activate, ready, observe, prune.
    """
    from cortexd.deploy.host.agent import carry_out
    from cortexd.deploy.host.wire import decode_order, encode_report

    order = decode_order(sys.stdin.buffer.read())
    if order.action != action:
        raise click.ClickException(f"the order on standard input is to {order.action}, not to {action}")
    sys.stdout.buffer.write(encode_report(carry_out(order)))
    sys.stdout.buffer.flush()
