"""The plugins that come with adapter_hub: variants, formats and sources, wired like anybody's."""
