"""What changes of a run say (Trigger.dev's API contract, 7.5 and 7.6)."""

from __future__ import annotations

from adapter.web.trigger_api.options import Tag, Wire


class Delay(Wire):
    """When a run is to be due: a duration, or a date."""

    delay: str


class NewTags(Wire):
    """Tags to be added."""

    tags: Tag | list[Tag]

    @property
    def named(self) -> list[str]:
        """The tags; blank ones are dropped."""
        listed = [self.tags] if isinstance(self.tags, str) else self.tags
        return [tag for tag in listed if tag.strip()]
