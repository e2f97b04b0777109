"""The checker of the library's annotations, as the suite calls it."""

from beartype import BeartypeConf, beartype

# An int is a float wherever a float is asked for, as type checkers have it (PEP 484).
checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
