"""TLS for the API's address. The metrics address stays plain: it is for this machine or a network of one's own."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import gevent
from gevent import ssl

log = logging.getLogger("cortexd.gateway")

# A client that takes longer is no client.
HANDSHAKE_S = 10.0


class TlsError(Exception):
    """Certificate or key cannot be used; the message says why."""


def server_context(certificate: Path, key: Path) -> Any:
    """TLS 1.2 or newer with this certificate chain and private key (PEM). Raises TlsError."""
    for name, path in (("tls_certificate", certificate), ("tls_key", key)):
        try:
            path.read_bytes()
        except OSError as e:
            raise TlsError(f"[gateway] {name}: {path}: {e.strerror}") from None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(certificate, key, password=_refuse)
    except _EncryptedKey:
        raise TlsError(f"[gateway] tls_key: {key} is encrypted; the gateway needs one without a passphrase") from None
    except ssl.SSLError as e:
        if e.reason == "KEY_VALUES_MISMATCH":
            raise TlsError(f"[gateway] tls_key: {key} does not belong to the certificate in {certificate}") from None
        why = f"{certificate} and {key} are no certificate chain and private key in PEM form"
        raise TlsError(f"[gateway] tls_certificate, tls_key: {why} ({e.reason or 'not readable'})") from None
    return context


def shake_hands(context: Any, client: Any) -> Any:
    """The encrypted socket over ``client``, or None (and ``client`` closed) when that does not come about in time.

    For the greenlet of the connection: others are accepted meanwhile.
    """
    try:
        with gevent.Timeout(HANDSHAKE_S):
            return context.wrap_socket(client, server_side=True)
    except (gevent.Timeout, OSError) as e:
        log.debug("no TLS handshake: %s", e)
        client.close()
        return None


class _EncryptedKey(Exception):
    pass


def _refuse() -> str:
    raise _EncryptedKey
