"""The adapter in code without an event loop, as a Flask or Django view would use it.

    export DATABASE_URL=postgresql://adapter:adapter@127.0.0.1:5432/adapter
    python examples/in_flask_style/orders.py

`adapter.sync` has the verbs a view needs, `adapter.sync.call(…)` carries out any other. What joins your
transaction runs on your connection, in your thread.
"""

from datetime import timedelta

from sqlalchemy import Engine, create_engine, text
from sqlalchemy.orm import Session

from adapter import Adapter, JobStatus

adapter = Adapter.from_env()


# Handlers may be plain functions: a worker runs them in a thread.
@adapter.task("send-receipt")
def send_receipt(order: dict[str, int]) -> str:
    return f"receipt for order {order['id']}"


def place_order(engine: Engine, order_id: int) -> str:
    """What a view does: write the order and its job in one transaction; both commit, or neither."""
    with Session(engine) as session, session.begin():
        session.execute(text("INSERT INTO public.orders (id) VALUES (:id)"), {"id": order_id})
        job = adapter.sync.schedule_job("send-receipt", {"id": order_id}, within=session)
    return str(job.id)


def refused_order(engine: Engine) -> None:
    """An order that rolls back takes its job with it."""
    with Session(engine) as session:
        job = adapter.sync.schedule_job("send-receipt", {"id": 0}, within=session)
        session.rollback()
    assert adapter.sync.get_job(job.id) is None


def main() -> None:
    url = adapter.settings.database().url.replace("postgresql://", "postgresql+psycopg://", 1)
    engine = create_engine(url)
    with engine.begin() as conn:
        conn.execute(text("CREATE TABLE IF NOT EXISTS public.orders (id integer PRIMARY KEY)"))
        conn.execute(text("DELETE FROM public.orders"))
    # Once per process; after a fork (a pre-forking server), open it in the child.
    with adapter.sync:
        print(f"order 1: job {place_order(engine, 1)}")
        refused_order(engine)
        later = adapter.sync.schedule_job("send-receipt", {"id": 2}, delay=timedelta(hours=1))
        assert later.cancel(reason="the order was withdrawn").status is JobStatus.CANCELED
        for job in adapter.sync.list_jobs().jobs:
            print(f"{job.type} {job.status}")
    engine.dispose()


if __name__ == "__main__":
    main()
