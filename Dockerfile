# syntax=docker/dockerfile:1
FROM python:3.13-slim AS build
WORKDIR /src
COPY requirements-build.lock requirements-runtime.lock ./
RUN python -m venv /tools && python -m venv /venv \
    && /tools/bin/pip install --no-cache-dir --no-deps --require-hashes --requirement requirements-build.lock \
    && /venv/bin/pip install --no-cache-dir --no-deps --require-hashes --requirement requirements-runtime.lock
COPY pyproject.toml README.md LICENSE ./
COPY adapter ./adapter
COPY alembic ./alembic
RUN /tools/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /dist . \
    && /venv/bin/pip install --no-cache-dir --no-deps /dist/*.whl

FROM python:3.13-slim
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin adapter
COPY --from=build /venv /venv
ENV PATH="/venv/bin:$PATH" PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /app
USER adapter
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 CMD ["adapter", "healthcheck"]
CMD ["adapter", "serve", "--host", "0.0.0.0", "--port", "8000"]
