"""Who may do what: the rule that every route asks, which the application may replace.

A route names an action (``read``, ``write``, ``trigger``, ``admin``, …) and every resource by which it may
be allowed: pairs of a kind and an id, None for all of the kind. A job's owner is one of them, as
``("users", user_id)``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from adapter.web.auth import Principal

Resource = tuple[str, str | None]
#: Answers at once: what it needs to know, `Authenticate` looks up and puts into the principal.
Authorize = Callable[["Principal", str, Sequence[Resource]], bool]

#: The user who may see and steer everybody's jobs.
SYSTEM_USER = "0"


def allowed_by_default(principal: Principal, action: str, resources: Sequence[Resource]) -> bool:
    """Allow what the scopes allow, and to a user only what is theirs."""
    return by_scopes(principal, action, resources) and owner_or_system(principal, action, resources)


def by_scopes(principal: Principal, action: str, resources: Sequence[Resource]) -> bool:
    """Allow what a scope says: ``action:kind`` for all of a kind, ``action:kind:id`` for one."""
    if principal.scopes is None:
        return True
    held = set(principal.scopes)
    if held & {"admin", f"{action}:all"}:
        return True
    return any(
        f"{action}:{kind}" in held or (name is not None and f"{action}:{kind}:{name}" in held)
        for kind, name in resources
    )


def owner_or_system(principal: Principal, _action: str, resources: Sequence[Resource]) -> bool:
    """Allow a user what names them as the owner; the system user, and callers without one, everything."""
    return not principal.is_bound or ("users", principal.user_id) in resources
