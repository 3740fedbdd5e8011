"""The parts of an adapter and how they are put together: `building`; what runs them: `running`."""

from adapter.assembly.running import Assembly

__all__ = ["Assembly"]
