"""Settings of the server: fields with help for people, from which flags, environment and config file are derived."""

from dataclasses import dataclass, field, fields
from typing import Any

from triform.errors import InputError


def setting(default: Any, help: str, *, minimum: float | None = None) -> Any:
    """Declare a setting; `minimum` is the least value of a number."""
    return field(default=default, metadata={"help": help, "minimum": minimum})


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """Settings of the server. Each has a flag, an environment variable `TRIFORM_SERVE_…`, and a key of a TOML file."""

    host: str = setting("127.0.0.1", "Address to listen on; 0.0.0.0 for all.")
    port: int = setting(8000, "Port to listen on; 0 takes any free one.", minimum=0)
    api_key: tuple[str, ...] = setting((), "Keys that callers must send one of; all routes but health need it then.")
    open_metrics: bool = setting(False, "Serve /metrics without a key.")
    cors_origin: tuple[str, ...] = setting((), "Origins whose pages may call the server from a browser; * for all.")
    max_requests: int = setting(256, "Most requests that wait or run; more are refused with 429.", minimum=1)
    max_queued_tokens: int = setting(
        500_000,
        "Most tokens of requests that wait or run, prompts and new tokens; more are refused with 429.",
        minimum=1,
    )
    max_running: int = setting(64, "Most sequences that generate at once; others wait.", minimum=1)
    max_new_tokens: int = setting(4096, "Most new tokens of a request.", minimum=1)
    max_inputs: int = setting(2048, "Most texts, documents or labels of a request.", minimum=1)
    max_body_bytes: int = setting(4 << 20, "Most bytes of a body; larger ones are refused with 413.", minimum=1)
    cache_bytes: int | None = setting(
        None, "Most bytes of keys and values of each model; without it, as many as its requests need.", minimum=1
    )
    step_goal: float = setting(
        2.0, "How many times longer a step may take while a long prompt is read beside running streams.", minimum=1
    )
    body_timeout: float = setting(30.0, "Seconds in which the body of a request must arrive.", minimum=0.1)
    stall_timeout: float = setting(30.0, "Seconds after which a reader who takes nothing is cut off.", minimum=0.1)
    ping_interval: float = setting(15.0, "Seconds of silence after which a stream gets a comment.", minimum=0.1)
    keep_alive: float = setting(75.0, "Seconds that an idle connection stays open.", minimum=0.0)
    drain_delay: float = setting(
        0.0, "Seconds at least for which a server told to stop answers 503, so that probes see it.", minimum=0.0
    )
    shutdown_timeout: float = setting(60.0, "Seconds for requests in flight after a signal to stop.", minimum=0.0)
    auto_truncate: bool = setting(False, "Cut long input where a request does not say whether to; otherwise refuse it.")
    lenient: bool = setting(False, "Ignore unknown fields of a body, and list them in a header.")
    log_texts: bool = setting(False, "Write the bodies of requests into the log.")

    def check(self) -> None:
        """Check the values.

        Raises:
            InputError: a number is too small.
        """
        for each in fields(self):
            value, minimum = getattr(self, each.name), each.metadata["minimum"]
            if minimum is not None and value is not None and value < minimum:
                raise InputError(f"{each.name}={value}: expected at least {minimum}.")
