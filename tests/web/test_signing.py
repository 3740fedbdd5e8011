"""The vectors are made by hand or by the library, never by the code under test."""

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from adapter.domain.errors import ConfigurationError, SignatureError
from adapter.domain.signing import Secret, Verified, sign_standard, signing_key, verify

NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)
# The secret, id and body of the Standard Webhooks specification's own example.
SPEC_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
SPEC_ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
SPEC_BODY = b'{"test": 2432232314}'
SPEC_AT = datetime.fromtimestamp(1614265330, UTC)
SPEC_SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="

SECRET = Secret("a", SPEC_SECRET)
RAW = Secret("b", "not base64 at all, but a secret")


def refused(headers: dict[str, str], body: bytes = SPEC_BODY, secrets: list[Secret] | None = None) -> str:
    with pytest.raises(SignatureError) as caught:
        verify(headers, body, [SECRET] if secrets is None else secrets, NOW)
    assert str(caught.value) == "Invalid signature"
    return caught.value.reason


def hex_of(secret: str, body: bytes) -> str:
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def test_the_specification_s_example_verifies() -> None:
    headers = {
        "webhook-id": SPEC_ID,
        "webhook-timestamp": "1614265330",
        "webhook-signature": SPEC_SIGNATURE,
    }
    assert verify(headers, SPEC_BODY, [SECRET], SPEC_AT) == Verified(
        source="standard", delivery_id=SPEC_ID, secret_id="a", sent_at=SPEC_AT
    )


def test_what_we_sign_is_the_specification_s_example() -> None:
    signed = sign_standard(SPEC_SECRET, SPEC_ID, SPEC_AT, SPEC_BODY)
    assert signed["webhook-signature"] == SPEC_SIGNATURE


def test_a_raw_secret_is_its_own_key() -> None:
    body = '{"name": "größe"}'.encode()
    expected = Webhook(RAW.value.encode()).sign("msg_1", NOW, body.decode())
    headers = sign_standard(RAW.value, "msg_1", NOW, body)
    assert headers["webhook-signature"] == expected
    assert verify(headers, body, [RAW], NOW).secret_id == "b"


def test_a_bare_base64_secret_is_also_read_as_senders_decode_it() -> None:
    bare = SPEC_SECRET.removeprefix("whsec_")
    headers = sign_standard(SPEC_SECRET, "msg_1", NOW, b"{}")
    assert verify(headers, b"{}", [Secret("c", bare)], NOW).secret_id == "c"


@pytest.mark.parametrize("word", ["hook", "abcdefgh", "!!!!"])
def test_a_word_that_happens_to_be_base64_makes_no_second_key(word: str) -> None:
    forged = sign_standard("whsec_" + base64.b64encode(b"x").decode(), "msg_1", NOW, b"{}")
    short = base64.b64decode(word, validate=False) or b"\0"
    signature = Webhook(short).sign("msg_1", NOW, "{}")
    refused(forged | {"webhook-signature": signature}, b"{}", [Secret("c", word)])


def test_during_a_rotation_both_secrets_verify_and_each_is_named() -> None:
    for secret in (SECRET, RAW):
        headers = sign_standard(secret.value, "msg_1", NOW, b"{}")
        assert verify(headers, b"{}", [RAW, SECRET], NOW).secret_id == secret.id
        headers = {"x-trigger-signature-hmacsha256": hex_of(secret.value, b'{"id":"1"}')}
        assert verify(headers, b'{"id":"1"}', [RAW, SECRET], NOW).secret_id == secret.id


def test_one_good_signature_among_several_is_enough() -> None:
    headers = sign_standard(SPEC_SECRET, "msg_1", NOW, b"{}")
    headers["webhook-signature"] = f"v1a,abc v1,AAAA {headers['webhook-signature']} junk"
    assert verify(headers, b"{}", [SECRET], NOW).source == "standard"


@pytest.mark.parametrize("seconds", [-300, 300, 0])
def test_timestamps_inside_the_tolerance_verify(seconds: int) -> None:
    at = NOW + timedelta(seconds=seconds)
    assert verify(sign_standard(SPEC_SECRET, "m", at, b"{}"), b"{}", [SECRET], NOW).sent_at == at


@pytest.mark.parametrize("seconds", [-301, 301, -10_000_000])
def test_timestamps_outside_the_tolerance_are_refused(seconds: int) -> None:
    headers = sign_standard(SPEC_SECRET, "m", NOW + timedelta(seconds=seconds), b"{}")
    assert "clock" in refused(headers, b"{}")


@pytest.mark.parametrize("change", ["webhook-id", "webhook-timestamp", "webhook-signature", "body"])
def test_a_change_to_any_signed_part_is_refused(change: str) -> None:
    headers = sign_standard(SPEC_SECRET, "msg_1", NOW, b"{}")
    body = b"{} " if change == "body" else b"{}"
    changed = {
        "webhook-id": "msg_2",
        "webhook-timestamp": str(int(NOW.timestamp()) + 1),
        "webhook-signature": "v1," + base64.b64encode(b"\0" * 32).decode(),
    }
    refused(headers | {name: value for name, value in changed.items() if name == change}, body)


@pytest.mark.parametrize("missing", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_each_standard_header_is_needed_even_beside_a_good_alert_signature(missing: str) -> None:
    headers = sign_standard(SPEC_SECRET, "msg_1", NOW, b"{}")
    del headers[missing]
    refused(headers | {"x-trigger-signature-hmacsha256": hex_of(SPEC_SECRET, b"{}")}, b"{}")


def test_header_names_have_any_case() -> None:
    headers = {name.upper(): value for name, value in sign_standard(SPEC_SECRET, "m", NOW, b"{}").items()}
    assert verify(headers, b"{}", [SECRET], NOW).source == "standard"


def test_an_alert_is_known_by_its_body_s_id() -> None:
    body = b'{"id":"alert_1","type":"alert.run.failed"}'
    # The secret as it is written, prefix and all.
    headers = {"x-trigger-signature-hmacsha256": hex_of(SPEC_SECRET, body)}
    assert verify(headers, body, [SECRET], NOW) == Verified(
        source="alert", delivery_id="alert_1", secret_id="a"
    )


@pytest.mark.parametrize(
    "body", [b"no json", b"[]", b'{"id":7}', b'{"id":""}', b'{"id":"a\\u0000"}', b"\xff"]
)
def test_an_alert_without_an_id_is_known_by_its_body(body: bytes) -> None:
    headers = {"x-trigger-signature-hmacsha256": hex_of(RAW.value, body)}
    assert verify(headers, body, [RAW], NOW).delivery_id == hashlib.sha256(body).hexdigest()


def test_the_guide_s_header() -> None:
    body = b'{"type":"RUN_STARTED"}'
    verified = verify({"trigger-signature": hex_of(RAW.value, body)}, body, [RAW], NOW)
    assert verified == Verified(source="guide", delivery_id=hashlib.sha256(body).hexdigest(), secret_id="b")


@pytest.mark.parametrize("header", ["trigger-signature", "x-trigger-signature-hmacsha256"])
@pytest.mark.parametrize("shape", ["upper", "prefixed", "short", "empty", "other", "non-ascii"])
def test_hex_signatures_are_exact(header: str, shape: str) -> None:
    good = hex_of(RAW.value, b"{}")
    bad = {
        "upper": good.upper(),
        "prefixed": f"sha256={good}",
        "short": good[:-1],
        "empty": "",
        "other": hex_of("other", b"{}"),
        "non-ascii": good[:-1] + "é",
    }
    refused({header: bad[shape]}, b"{}", [RAW])


def test_without_a_signature_or_a_secret_nothing_is_believed() -> None:
    assert "no signature header" in refused({})
    empty = hmac.new(b"", b"{}", hashlib.sha256).hexdigest()
    refused({"trigger-signature": empty}, b"{}", [])
    refused({"trigger-signature": empty}, b"{}", [Secret("e", "")])
    forged = Webhook(b"\0").sign("m", NOW, "{}")
    refused(
        sign_standard(SPEC_SECRET, "m", NOW, b"{}") | {"webhook-signature": forged}, b"{}", [Secret("e", "")]
    )


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_!!!", "whsec_é"])
def test_a_secret_that_cannot_be_a_key_stops_signing_and_never_verifies(secret: str) -> None:
    with pytest.raises(ConfigurationError):
        signing_key(secret)
    refused(sign_standard(SPEC_SECRET, "m", NOW, b"{}"), b"{}", [Secret("x", secret)])


def test_a_secret_s_id_is_a_fingerprint_and_its_repr_hides_it() -> None:
    assert Secret.of(SPEC_SECRET) == Secret.of(SPEC_SECRET)
    assert Secret.of(SPEC_SECRET).id != Secret.of(RAW.value).id
    assert SPEC_SECRET not in repr(Secret.of(SPEC_SECRET))


NAMES = st.sampled_from(
    [
        "webhook-id",
        "webhook-timestamp",
        "webhook-signature",
        "x-trigger-signature-hmacsha256",
        "trigger-signature",
        "other",
    ]
)
VALUES = st.one_of(
    st.text(max_size=40),
    st.sampled_from(
        ["v1,", "v1", ",", "v1,=", "v1,é", "msg_1", SPEC_SIGNATURE, "9" * 40, "-1", "1e9", "NaN", "²"]
    ),
    st.integers(-(10**12), 10**12).map(str),
)


@given(st.dictionaries(NAMES, VALUES), st.binary(max_size=60))
def test_nothing_but_a_signature_error_is_ever_raised(headers: dict[str, str], body: bytes) -> None:
    with pytest.raises(SignatureError):
        verify(headers, body, [SECRET, RAW, Secret("e", ""), Secret("w", "whsec_%")], NOW)


@given(
    st.recursive(st.none() | st.text() | st.integers(), st.lists, max_leaves=5),
    st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1),
)
def test_what_is_signed_verifies(value: object, message_id: str) -> None:
    body = json.dumps({"value": value}).encode()
    headers = sign_standard(SPEC_SECRET, message_id, NOW, body)
    assert verify(headers, body, [RAW, SECRET], NOW).delivery_id == message_id
