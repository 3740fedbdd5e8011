"""Cutover over HTTP: every verb of `adapter cutover` below ``/api/admin/cutover/``."""
