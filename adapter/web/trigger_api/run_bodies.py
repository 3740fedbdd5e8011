"""What changes of a run say (Trigger.dev's API contract, 7.5 and 7.6)."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from adapter.web.trigger_api.options import Tag


class _Body(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)


class Delay(_Body):
    """When a run is to be due: a duration, or a date."""

    delay: str


class NewTags(_Body):
    """Tags to be added."""

    tags: Tag | list[Tag]

    @property
    def named(self) -> list[str]:
        """The tags; blank ones are dropped."""
        listed = [self.tags] if isinstance(self.tags, str) else self.tags
        return [tag for tag in listed if tag.strip()]
