"""RASD."""
