"""DySpec."""
