"""Whether failures show their traceback; `--debug` of any command sets it."""

enabled = False


def enable(wanted: bool) -> None:
    """Take the value of the option."""
    global enabled
    enabled = enabled or wanted
