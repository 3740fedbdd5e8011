"""HTTP: routes translate and decide nothing."""
