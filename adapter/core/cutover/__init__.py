"""Moving tasks between executors: what people turn, what follows from it, and what they can know of it."""
