"""Handing on to the Trigger.dev behind us what is not ours: the HTTP part."""
