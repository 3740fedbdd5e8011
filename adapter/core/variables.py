"""The verbs by which an application keeps environment variables."""

from __future__ import annotations

from collections.abc import Mapping

from adapter.domain.errors import InvalidArgumentError
from adapter.domain.variable import Variable, VariableEnvironment, check_environment, check_variable, is_name
from adapter.store import variables as store
from adapter.store.database import Database


class KeepsVariables:
    """Mixed into the adapter: variables by environment. They are data; nobody's process gets them by itself."""

    database: Database

    async def set_variables(
        self,
        variables: Mapping[str, str],
        *,
        environment: VariableEnvironment = "prod",
        secret: bool = False,
        override: bool = True,
        actor: str = "application",
    ) -> None:
        """Set variables, all or none. ``secret``: no route shows the value any more; that is never taken back.

        Raises:
            InvalidArgumentError: a name, a value or the environment cannot be; or, without ``override``, one of
                them is set already. No message has a value.
        """
        given = dict(variables)
        check_environment(environment)
        for name, value in given.items():
            check_variable(environment, name, value)
        async with self.database.transaction() as conn:
            schema = self.database.schema
            if not override and (taken := await store.taken(conn, schema, environment, list(given))):
                msg = f"Already set in {environment}: {', '.join(taken)}. Nothing was changed; override them, or leave them out."
                raise InvalidArgumentError(msg)
            await store.put(conn, schema, environment, given, is_secret=secret, by=actor)

    async def change_variable(
        self, name: str, value: str, *, environment: VariableEnvironment = "prod", actor: str = "application"
    ) -> bool:
        """Give a variable another value; False when it is not set. Errors: see `set_variables`."""
        check_variable(environment, name, value)
        async with self.database.connection() as conn:
            return await store.change(conn, self.database.schema, environment, name, value=value, by=actor)

    async def get_variable(self, name: str, *, environment: VariableEnvironment = "prod") -> Variable | None:
        """Return a variable with its value, or None."""
        check_environment(environment)
        if not is_name(name):
            return None
        async with self.database.connection() as conn:
            return next(iter(await store.listed(conn, self.database.schema, environment, name)), None)

    async def list_variables(self, *, environment: VariableEnvironment = "prod") -> list[Variable]:
        """Return the variables of an environment with their values, by name."""
        check_environment(environment)
        async with self.database.connection() as conn:
            return await store.listed(conn, self.database.schema, environment)

    async def delete_variable(self, name: str, *, environment: VariableEnvironment = "prod") -> bool:
        """Remove a variable; False when it is not set."""
        check_environment(environment)
        if not is_name(name):
            return False
        async with self.database.connection() as conn:
            return await store.delete(conn, self.database.schema, environment, name)
