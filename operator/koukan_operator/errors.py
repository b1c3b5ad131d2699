"""What the operator raises on purpose."""

from __future__ import annotations

from koukan.errors import KoukanError


class InvalidResource(KoukanError):
    """A custom resource that cannot be used: one line per problem, each names the path, what is wrong, what would be right."""
