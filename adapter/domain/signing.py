"""Signatures of webhooks, ours and others', over the raw bytes of a body.

Three schemes are read, told apart by their headers:

- ``standard``: Standard Webhooks (``webhook-id``, ``webhook-timestamp``, ``webhook-signature``), the one
  our hooks, our start fence and our own events use. It alone carries a time, so only it bounds replays.
- ``alert``: Trigger.dev's alerts (its API contract, 15.2), ``x-trigger-signature-hmacsha256``.
- ``guide``: the header of the seed guide, ``trigger-signature``.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

from standardwebhooks import Webhook

from adapter.domain.errors import ConfigurationError, SignatureError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: How far a Standard Webhooks timestamp may lie from our clock, either way.
TOLERANCE = timedelta(seconds=300)
ALERT_HEADER = "x-trigger-signature-hmacsha256"
GUIDE_HEADER = "trigger-signature"

_STANDARD_HEADERS = ("webhook-id", "webhook-timestamp", "webhook-signature")
_PREFIX = "whsec_"
_LONGEST_ID = 256
_LONGEST_TIMESTAMP = 11
#: A sender that rotates lists a few signatures, never hundreds.
_MOST_SIGNATURES = 16
_SHORTEST_BARE_KEY = 16

Source: TypeAlias = Literal["standard", "alert", "guide"]


@dataclass(frozen=True, slots=True)
class Secret:
    """A shared secret and the name under which logs and metrics know it."""

    id: str
    value: str = field(repr=False)

    @classmethod
    def of(cls, value: str) -> Secret:
        """Name a secret by a fingerprint: it stays the same wherever it stands in the list."""
        return cls(hashlib.sha256(b"trigger-adapter secret id:" + value.encode()).hexdigest()[:8], value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """A body whose signature is good.

    ``delivery_id`` is the same over the retries of one delivery. ``sent_at`` is None where the scheme
    carries no time.
    """

    source: Source
    delivery_id: str
    secret_id: str
    sent_at: datetime | None = None


def verify(
    headers: Mapping[str, str],
    body: bytes,
    secrets: Sequence[Secret],
    now: datetime,
    tolerance: timedelta = TOLERANCE,
) -> Verified:
    """Say who signed ``body``, or refuse it.

    Header names may have any case. Any of ``secrets`` will do, so that one can follow another.

    Raises:
        SignatureError: for whatever is wrong; its ``reason`` is for the log.
    """
    given = {name.lower(): value for name, value in headers.items()}
    if any(name in given for name in _STANDARD_HEADERS):
        return _verify_standard(given, body, secrets, now, tolerance)
    if ALERT_HEADER in given:
        secret = _hex_signer(given[ALERT_HEADER], body, secrets)
        return Verified(source="alert", delivery_id=_alert_id(body), secret_id=secret.id)
    if GUIDE_HEADER in given:
        secret = _hex_signer(given[GUIDE_HEADER], body, secrets)
        return Verified(source="guide", delivery_id=_digest(body), secret_id=secret.id)
    raise SignatureError("no signature header")


def sign_standard(secret: str, message_id: str, at: datetime, body: bytes) -> dict[str, str]:
    """Return the three Standard Webhooks headers for ``body``, which must be UTF-8.

    Raises:
        ConfigurationError: the secret cannot be used as a key.
    """
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": _standard_signature(signing_key(secret), message_id, at, body.decode()),
    }


def signing_key(secret: str) -> bytes:
    """Return the Standard Webhooks key: base64 after ``whsec_``, otherwise the text as UTF-8.

    Raises:
        ConfigurationError: it is empty, or ``whsec_`` is followed by something else than base64.
    """
    if not secret.startswith(_PREFIX):
        key = secret.encode()
    else:
        text = secret.removeprefix(_PREFIX).rstrip("=")
        try:
            key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
        except (binascii.Error, ValueError) as error:
            raise ConfigurationError("A webhook secret starts with whsec_ but is not base64.") from error
    if not key:
        raise ConfigurationError("A webhook secret is empty.")
    return key


def _verify_standard(
    given: Mapping[str, str], body: bytes, secrets: Sequence[Secret], now: datetime, tolerance: timedelta
) -> Verified:
    message_id, timestamp, listed = (given.get(name, "") for name in _STANDARD_HEADERS)
    # The signed text is id.timestamp.body, so neither of the first two may hold a dot.
    if not message_id or len(message_id) > _LONGEST_ID or "." in message_id or not message_id.isprintable():
        raise SignatureError("webhook-id is missing or cannot be used")
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= _LONGEST_TIMESTAMP):
        raise SignatureError("webhook-timestamp is not unix seconds")
    sent_at = datetime.fromtimestamp(int(timestamp), UTC)
    if abs(now - sent_at) > tolerance:
        raise SignatureError("webhook-timestamp is too far from our clock")
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise SignatureError("the body is not UTF-8") from error
    versions = (entry.partition(",") for entry in listed.split(" ")[:_MOST_SIGNATURES])
    signatures = [signature.encode() for version, _, signature in versions if version == "v1"]
    if not signatures:
        raise SignatureError("webhook-signature holds no v1 signature")
    for secret in secrets:
        fits = False
        for key in _verifying_keys(secret.value):
            wanted = _standard_signature(key, message_id, sent_at, text).partition(",")[2].encode()
            # Every entry is compared, so the time does not tell which one fits.
            fits = any([hmac.compare_digest(wanted, signature) for signature in signatures]) or fits  # noqa: C419
        if fits:
            return Verified(source="standard", delivery_id=message_id, secret_id=secret.id, sent_at=sent_at)
    raise SignatureError("no active secret made webhook-signature")


def _verifying_keys(secret: str) -> list[bytes]:
    """Return the key, and for a bare secret also what it is in base64: senders differ there."""
    try:
        keys = [signing_key(secret)]
    except ConfigurationError:
        return []
    if not secret.startswith(_PREFIX):
        try:
            decoded = base64.b64decode(secret, validate=True)
        except (binascii.Error, ValueError):
            return keys
        # Shorter ones would be words that happen to be base64.
        keys += [decoded] if len(decoded) >= _SHORTEST_BARE_KEY else []
    return keys


def _standard_signature(key: bytes, message_id: str, at: datetime, text: str) -> str:
    # Only the library's signing is used: its verify reads the machine's clock and leaks foreign errors.
    return Webhook(key).sign(message_id, at.astimezone(UTC), text)


def _hex_signer(given: str, body: bytes, secrets: Sequence[Secret]) -> Secret:
    signature = given.encode("utf-8", "replace")
    for secret in secrets:
        if not secret.value:
            continue
        wanted = hmac.new(secret.value.encode(), body, hashlib.sha256).hexdigest()
        if hmac.compare_digest(wanted.encode(), signature):
            return secret
    raise SignatureError("no active secret made the hex signature")


def _alert_id(body: bytes) -> str:
    """Return the alert's own id, the only thing that is the same over its retries."""
    try:
        value: Any = json.loads(body)
    except (ValueError, RecursionError):
        return _digest(body)
    found = cast("dict[str, Any]", value).get("id") if isinstance(value, dict) else None
    if isinstance(found, str) and 0 < len(found) <= _LONGEST_ID and found.isprintable():
        return found
    return _digest(body)


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()
