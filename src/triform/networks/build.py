"""Spec → network: build chooses the form."""

from typing import NamedTuple

from triform import spec
from triform.engines import Engine, Format, ParameterRole
from triform.networks.decoder import Decoder
from triform.networks.encoder import Encoder
from triform.networks.encoder_decoder import EncoderDecoder
from triform.networks.scope import ParameterSource, Scope
from triform.networks.shifted_encoder_decoder import ShiftedEncoderDecoder

Network = Encoder | Decoder | EncoderDecoder | ShiftedEncoderDecoder


def build(model: spec.Model, engine: Engine, source: ParameterSource) -> Network:
    """Build a network; `source` gives each parameter by canonical name."""
    scope = Scope(engine, source)
    match model.form:
        case spec.Encoder() as form:
            return Encoder(scope, form, model.head)
        case spec.Decoder() as form:
            return Decoder(scope, form, model.head)
        case spec.EncoderDecoder(target=spec.ShiftTokensRight() as target) as form:
            return ShiftedEncoderDecoder(scope, form, model.head, target)
        case spec.EncoderDecoder() as form:
            return EncoderDecoder(scope, form, model.head)


class Declaration(NamedTuple):
    """The shape, role and format of a parameter, before a tensor is loaded."""

    shape: tuple[int, ...]
    role: ParameterRole
    """Every role that the parameter has in a layer."""
    format: Format = Format.FLOAT32


def declare(model: spec.Model, engine: Engine) -> dict[str, Declaration]:
    """List the parameters of a spec by canonical name, in the order of the forward pass; nothing is loaded."""
    declared: dict[str, Declaration] = {}

    def record(name: str, shape: tuple[int, ...], role: ParameterRole) -> Declaration:
        declared[name] = Declaration(shape, role | declared[name].role if name in declared else role)
        return declared[name]

    build(model, engine, record)
    return declared
