"""Storages as several processes have them, for workflows."""

from __future__ import annotations

from tests.run.conftest import same_place

__all__ = ["same_place"]
