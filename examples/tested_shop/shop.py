"""A small shop whose tests are in `test_shop.py`: an order is shipped, mail follows, and a partner makes the label.

pip install 'trigger-adapter[embedded]' pytest pytest-asyncio
pytest examples/tested_shop
"""

from datetime import timedelta

from pydantic import BaseModel

from adapter import Adapter, JobContext, RetryPolicy

adapter = Adapter.from_env()
stock = {"tea": 2}


class Order(BaseModel):
    order_id: int
    item: str


class OutOfStockError(Exception):
    """There is none left; tomorrow there may be."""


@adapter.task(
    "ship-order", retry=RetryPolicy(max_attempts=3, min_timeout_in_ms=3_600_000, max_timeout_in_ms=86_400_000)
)
async def ship_order(order: Order, ctx: JobContext) -> str:
    if stock.get(order.item, 0) < 1:
        raise OutOfStockError(order.item)
    stock[order.item] -= 1
    await ctx.schedule_job("make-label", {"order_id": order.order_id})
    await ctx.schedule_job(
        "ask-for-review",
        {"order_id": order.order_id},
        tag=f"review-{order.order_id}",
        delay=timedelta(days=7),
    )
    return f"shipped {order.item}"


@adapter.task("ask-for-review")
def ask_for_review(payload: dict[str, int]) -> str:
    return f"how was order {payload['order_id']}?"


make_label = adapter.remote_task("make-label", executor="trigger")


async def place_order(order_id: int, item: str) -> None:
    """What a view of the shop calls."""
    await ship_order.schedule(Order(order_id=order_id, item=item), tag=f"order-{order_id}")
