"""Spec → model: the one place where a form is chosen."""

from dataclasses import dataclass

from triform import spec
from triform.engines import Engine, Format
from triform.models.decoder import Decoder
from triform.models.encoder import Encoder
from triform.models.encoder_decoder import EncoderDecoder
from triform.models.scope import ParameterSource, Scope

Network = Encoder | Decoder | EncoderDecoder


def build(model: spec.Model, engine: Engine, source: ParameterSource) -> Network:
    """Build a model, taking each parameter from `source` by its canonical name."""
    scope = Scope(engine, source)
    match model.form:
        case spec.Encoder() as form:
            return Encoder(scope, form, model.head)
        case spec.Decoder() as form:
            return Decoder(scope, form, model.head)
        case spec.EncoderDecoder() as form:
            return EncoderDecoder(scope, form, model.head)


def declare(model: spec.Model, engine: Engine) -> dict[str, tuple[int, ...]]:
    """The canonical name and shape of every parameter a spec asks for, in the order of the data; nothing is loaded."""
    shapes: dict[str, tuple[int, ...]] = {}

    def record(name: str, shape: tuple[int, ...]) -> _Declared:
        shapes[name] = shape
        return _Declared(shape)

    build(model, engine, record)
    return shapes


@dataclass(frozen=True, slots=True)
class _Declared:
    """Stands in for a parameter of which only the shape is known."""

    shape: tuple[int, ...]
    format: Format = Format.FLOAT32
