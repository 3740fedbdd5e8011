"""`adapter cutover health` and `trip`."""

from types import ModuleType

from tests.cli.commands import adapter


def test_nothing_was_sent_yet(shop: ModuleType) -> None:
    answer = adapter("cutover", "health")
    assert (answer.code, answer.out) == (0, "")
    assert "Nothing was sent to an executor yet" in answer.err


def test_a_circuit_is_opened_shown_and_closed(shop: ModuleType) -> None:
    done = adapter("cutover", "trip", "index", "--at", "trigger", "--reason", "INC-8")
    assert (done.code, done.out) == (0, "trigger gets no more jobs of 'index' until somebody resumes it\n")
    shown = adapter("cutover", "health").out
    assert all(word in shown for word in ("OPEN CIRCUIT", "index", "trigger", "INC-8"))
    (circuit,) = adapter("--json", "cutover", "health").document["circuits"]
    assert (circuit["task"], circuit["executor"], circuit["reason"]) == ("index", "trigger", "INC-8")
    assert adapter("cutover", "resume", "index", "--reason", "over").code == 0
    assert adapter("--json", "cutover", "health").document["circuits"] == []


def test_the_local_executor_cannot_be_tripped(shop: ModuleType) -> None:
    refused = adapter("cutover", "trip", "index", "--at", "local", "--reason", "INC-8")
    assert refused.code != 0
    assert "adapter queues pause" in refused.err
