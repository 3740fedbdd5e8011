"""`adapter cutover shadow`."""

from types import ModuleType

from tests.cli.commands import adapter


def test_a_shadow_is_switched_on_shown_and_off(shop: ModuleType) -> None:
    words = ("cutover", "shadow", "index", "--at", "trigger", "--percent", "5")
    done = adapter(*words, "--mode", "enqueue", "--reason", "week 0")
    assert (done.code, done.out) == (0, "5% of the ended jobs of 'index' are copied to trigger: enqueue\n")
    assert "5% copied to trigger" in adapter("cutover", "status").out
    assert "shadow to trigger enqueue 5%" in adapter("cutover", "history", "index").out
    off = adapter(*words, "--mode", "off", "--reason", "enough")
    assert (off.code, off.out) == (0, "no more jobs of 'index' are copied to trigger\n")
    gone = adapter(*words, "--mode", "off", "--reason", "enough")
    assert (gone.code, "There is no shadow of 'index' at trigger" in gone.err) == (6, True)


def test_effects_are_not_had_twice(shop: ModuleType) -> None:
    refused = adapter("cutover", "shadow", "index", "--at", "trigger", "--mode", "execute", "--reason", "x")
    assert (refused.code, "pure=True" in refused.err) == (2, True)
