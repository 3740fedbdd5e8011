"""The adapter inside a Starlette application: your routes, and the adapter's beside them.

    uvicorn --app-dir examples/in_starlette app:app

A mounted application's lifespan is not run by its host, so the host's own lifespan is the adapter's.
`work=False`: this process schedules, dispatches and takes webhooks; `adapter worker` runs the jobs.
"""

from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from adapter import Adapter

adapter = Adapter.from_env()


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
    job = await send_invoice.schedule(order, tag=f"order-{order.order_id}")
    return JSONResponse({"job": str(job.id), "status": job.status, "deduplicated": job.deduplicated}, 202)


app = Starlette(
    routes=[
        Route("/orders", create_order, methods=["POST"]),
        # Last, since it takes every path that is left: /readyz, /api/trigger/webhook, /api/v1/...
        Mount("/", adapter.asgi()),
    ],
    lifespan=adapter.lifespan(work=False),
)
