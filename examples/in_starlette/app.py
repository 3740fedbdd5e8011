"""The adapter inside a Starlette application: your routes, and the adapter's beside them.

    uvicorn --app-dir examples/in_starlette app:app

Your users are the adapter's users: they see and cancel their own jobs by the session they have with you.

A mounted application's lifespan is not run by its host, so the host's own lifespan is the adapter's.
`work=False`: this process schedules, dispatches and takes webhooks; `adapter worker` runs the jobs.
"""

from collections.abc import Sequence

from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from adapter import Adapter, Principal, allowed_by_default

adapter = Adapter.from_env()
#: Stands for your sessions: who is signed in, by the cookie of their browser.
SESSIONS = {"cookie-of-ann": "ann", "cookie-of-sue": "sue"}
SUPPORT = {"sue"}


class Order(BaseModel):
    order_id: int


@adapter.task("send-invoice")
async def send_invoice(order: Order) -> str:
    return f"invoice for order {order.order_id}"


async def create_order(request: Request) -> JSONResponse:
    """Schedule and answer at once; the job is found under its id."""
    try:
        order = Order.model_validate_json(await request.body())
    except ValidationError as error:
        return JSONResponse({"problems": error.errors(include_context=False, include_url=False)}, 422)
    user = await signed_in(request)
    job = await send_invoice.schedule(
        order, tag=f"order-{order.order_id}", user_id=user.user_id if user else None
    )
    return JSONResponse({"job": str(job.id), "status": job.status, "deduplicated": job.deduplicated}, 202)


async def signed_in(request: Request) -> Principal | None:
    """Whose session a request without a key has; this may ask your database."""
    user = SESSIONS.get(request.cookies.get("session", ""))
    return None if user is None else Principal(id=f"session of {user}", user_id=user)


def may(principal: Principal, action: str, resources: Sequence[tuple[str, str | None]]) -> bool:
    """Support reads everybody's jobs; everybody else sees and steers their own, as without this rule."""
    if principal.user_id in SUPPORT and action == "read":
        return True
    return allowed_by_default(principal, action, resources)


app = Starlette(
    routes=[
        Route("/orders", create_order, methods=["POST"]),
        # Last, since it takes every path that is left: /readyz, /api/trigger/webhook, /api/jobs, /api/v1/...
        Mount("/", adapter.asgi(authenticate=signed_in, authorize=may)),
    ],
    lifespan=adapter.lifespan(work=False),
)
