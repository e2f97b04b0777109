"""Running what a model wrote: programs in a walled child process, queries on a read-only table."""
