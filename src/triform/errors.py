"""Every exception that Triform raises on purpose, in one tree.

    TriformError
    ├── InputError           what the person gave: empty, ids outside the vocabulary …             exit code 3
    │   └── ContextLengthError     more tokens than fit into the model
    ├── ModelError           the model cannot be used as it is                                     exit code 4
    │   ├── ModelNotFoundError     no such folder, no such id, or offline and not in the cache
    │   ├── UnsupportedModelError  a model type, config key or value that Triform does not know
    │   ├── WeightError            missing, unexpected, misshapen or damaged tensors
    │   ├── TokenizerError         a tokenizer that is missing or damaged
    │   └── WrongTaskError         the model has no head for what was asked of it
    ├── EngineError          the engine cannot do what was asked of it                             exit code 5
    ├── NonFiniteError       the arithmetic ended in NaN or infinity                               exit code 6
    └── OutputError          a file cannot be written: no room, no right, a name too long          exit code 7

    UserWarning
    ├── TruncationWarning    text was cut, as the caller allowed
    ├── AdapterWarning       an adapter says that it belongs to another model
    ├── CheckpointWarning    a file of a checkpoint is left out
    ├── CacheWarning         the packed cache is not used, so that each start packs the weights again
    └── EngineWarning        a slower engine, or fewer threads, than this machine could have

Every message says what is wrong, where, what was expected and what to do about it.
Usage errors of the command line exit with 2, an unexpected exception with 1.
"""


class TriformError(Exception):
    """Base of all errors that Triform raises on purpose."""

    exit_code = 1


class InputError(TriformError, ValueError):
    """The input cannot be processed as it was given."""

    exit_code = 3


class ContextLengthError(InputError):
    """The input has more tokens than fit.

    Arguments:
        message: what is too long, and the remedy.
        num_tokens: the tokens of the input.
        limit: the most tokens that fit.
    """

    def __init__(self, message: str, num_tokens: int = 0, limit: int = 0) -> None:
        super().__init__(message)
        self.num_tokens = num_tokens
        self.limit = limit


class ModelError(TriformError):
    """The model cannot be used as it is."""

    exit_code = 4


class ModelNotFoundError(ModelError):
    """The model's files cannot be found."""


class UnsupportedModelError(ModelError):
    """The config asks for something that Triform does not implement."""


class WeightError(ModelError):
    """The checkpoint's tensors do not fit the model, or its files are damaged. Lists all problems at once."""


class TokenizerError(ModelError):
    """The tokenizer is missing or damaged."""


class WrongTaskError(ModelError):
    """The model lacks the head that the task needs."""


class EngineError(TriformError):
    """The engine is unknown, not available or cannot do what was asked."""

    exit_code = 5


class NonFiniteError(TriformError, ArithmeticError):
    """A result holds NaN or infinity, so the model has not answered."""

    exit_code = 6


class OutputError(TriformError, OSError):
    """A file cannot be written. Says what is left on the disk, and how to go on."""

    exit_code = 7


class TruncationWarning(UserWarning):
    """Input was cut to fit the model, as the caller asked with `long_input="truncate"`."""


class AdapterWarning(UserWarning):
    """An adapter names another base model than the one it is put on."""


class CheckpointWarning(UserWarning):
    """A file of a checkpoint is left out of a copy."""


class CacheWarning(UserWarning):
    """The folder of the packed cache is missing or not to be trusted, so the cache is off."""


class EngineWarning(UserWarning):
    """The native kernels were not built, so the reference engine is used; or some of their threads did not start."""


def shown(value: object) -> str:
    """The beginning of a value for a message, or its type where it cannot be written: numbers may be too long to."""
    try:
        return repr(value)[:300]
    except (ValueError, RecursionError):
        return f"an unprintable {type(value).__name__}"
