from types import ModuleType

from tests.cli.commands import adapter


def test_a_key_is_made_listed_rotated_and_revoked(shop: ModuleType) -> None:
    made = adapter("--json", "keys", "create", "ci", "--env", "dev", "--scope", "read:runs", "--user", "7")
    assert made.code == 0, made.err
    key: str = made.document["key"]
    assert key.startswith("tr_dev_sk_")
    (listed,) = adapter("--json", "keys", "list").document["keys"]
    assert (listed["scopes"], listed["user_id"]) == (["read:runs"], "7")
    rotated = adapter("keys", "rotate", key, "--overlap", "60")
    assert rotated.out.startswith("tr_dev_sk_")
    shown = adapter("keys", "list").out
    assert "read:runs" in shown
    assert key not in shown + rotated.out
    assert rotated.out.strip() not in shown
    for each in adapter("--json", "keys", "list").document["keys"]:
        assert adapter("keys", "revoke", each["id"]).code == 0
    assert adapter("--json", "keys", "list").document == {"keys": []}
    assert len(adapter("--json", "keys", "list", "--revoked").document["keys"]) == 2


def test_what_was_typed_is_not_shown_again_since_it_may_be_a_key(shop: ModuleType) -> None:
    unknown = adapter("keys", "revoke", "tr_dev_sk_" + "x" * 24)
    assert (unknown.code, "xxx" in unknown.err) == (6, False)
    assert adapter("keys", "create", "x", "--scope", "nonsense").code == 2
