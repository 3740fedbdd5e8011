"""Pure rules: no I/O, no clock read, no environment. Everything above may import from here."""
