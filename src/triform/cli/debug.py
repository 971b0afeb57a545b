"""The switch `--debug` of every command: show the traceback of an error."""

enabled = False


def enable(wanted: bool) -> None:
    """Switch tracebacks on, if the option is given."""
    global enabled
    enabled = enabled or wanted
