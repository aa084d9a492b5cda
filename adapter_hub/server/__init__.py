"""The HTTP server: OpenAI's API with adapters as models, and the routes that manage adapters."""

from .app import create_app

__all__ = ["create_app"]
