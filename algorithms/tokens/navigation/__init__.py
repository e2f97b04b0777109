"""Lists that are explored, what their items come to, and what keys do to ranks."""
