"""Trains the demo's adapters with PEFT and measures them against the bare base."""
