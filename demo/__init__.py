"""The demo: an app that switches adapters, the trained adapters, their tasks and training scripts."""
