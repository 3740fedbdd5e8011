"""Names under which a job is known elsewhere. Each formula is a contract, pinned by vectors."""

from __future__ import annotations

from hashlib import sha256
from uuid import NAMESPACE_URL, UUID, uuid5

# Trigger.dev's alphabet: no 0, no l (its API contract, 1.3).
_ALPHABET = "123456789abcdefghijkmnopqrstuvwxyz"
_RUN_PREFIX = "run_"
SCHEDULE_PREFIX = "sched_"
_RUN_LENGTH = 26
_TOMBSTONE = "tombstone:"
_QUEUE_LENGTH = 21


def child_id(parent_id: UUID, name: str) -> UUID:
    """Return the id of the child that a parent calls ``name``: of the parent's time, so that ids stay in order."""
    digest = sha256(f"{parent_id}/{name}".encode()).digest()
    number = int.from_bytes(parent_id.bytes[:6] + digest[:10])
    version, variant = 0xF << 76, 0x3 << 62
    return UUID(int=number & ~version & ~variant | 7 << 76 | 2 << 62)


def idempotency_key(job_id: UUID, epoch: int) -> str:
    """Return the key every submit of an epoch carries."""
    return f"{job_id}:{epoch}"


def hashed_key(key: str) -> str:
    """Return a key as Trigger.dev's SDK puts it on the wire: sha256, hex."""
    return sha256(key.encode()).hexdigest()


def request_key(job_id: UUID, epoch: int) -> str:
    """Return the ``x-trigger-request-idempotency-key`` of an epoch.

    Upstream answers the first run for 24 h whatever became of it, which the idempotency key alone
    does not: a failed run releases that one.
    """
    return str(uuid5(NAMESPACE_URL, f"trigger-adapter:{job_id}:{epoch}"))


def epoch_tag(job_id: UUID, epoch: int) -> str:
    """Return the tag by which a run of this epoch is found again."""
    return f"job:{job_id}:{epoch}"


def tombstone_tag(job_id: UUID, epoch: int) -> str:
    """Return the only tag of a run that was made to prove that there is no other."""
    return f"{_TOMBSTONE}{job_id}:{epoch}"


def parse_epoch_tag(tag: str) -> tuple[UUID, int] | None:
    """Return (job id, epoch) of an `epoch_tag`, None for any other tag."""
    kind, _, rest = tag.partition(":")
    text, _, number = rest.partition(":")
    if kind != "job" or not number.isdecimal():
        return None
    try:
        return UUID(text), int(number)
    except ValueError:
        return None


def is_own_tag(tag: str) -> bool:
    """Whether a run that carries this tag was submitted by an adapter: for a job, or to prove that there is none."""
    return parse_epoch_tag(tag) is not None or tag.startswith(_TOMBSTONE)


def run_id_of(job_id: UUID) -> str:
    """Return the ``run_…`` id under which our own Trigger.dev-compatible API shows a job."""
    return _RUN_PREFIX + _digits(job_id.int, _RUN_LENGTH)


def _digits(number: int, length: int) -> str:
    digits = ""
    for _ in range(length):
        number, place = divmod(number, len(_ALPHABET))
        digits = _ALPHABET[place] + digits
    return digits


def queue_id_of(name: str) -> str:
    """Return the ``queue_…`` id of a queue: of its name alone, so it is the same everywhere and for ever."""
    return "queue_" + _digits(int.from_bytes(sha256(name.encode()).digest()), _QUEUE_LENGTH)


def public_id(prefix: str, id_: UUID) -> str:
    """Return how something else than a job is shown there: ``batch_…``, ``sched_…``."""
    return prefix + run_id_of(id_).removeprefix(_RUN_PREFIX)


def own_id(prefix: str, text: str) -> UUID | None:
    """Return what `public_id` was made of, None when it is none of ours."""
    if not text.startswith(prefix):
        return None
    return job_id_of(_RUN_PREFIX + text.removeprefix(prefix))


def job_id_of(run_id: str) -> UUID | None:
    """Return the job behind one of our own run ids, None when it is not one."""
    digits = run_id.removeprefix(_RUN_PREFIX)
    if len(digits) != _RUN_LENGTH or len(run_id) != _RUN_LENGTH + len(_RUN_PREFIX):
        return None
    number = 0
    for digit in digits:
        place = _ALPHABET.find(digit)
        if place < 0:
            return None
        number = number * len(_ALPHABET) + place
    return UUID(int=number) if number < 1 << 128 else None
