"""Marian: Fast Neural Machine Translation in C++. Junczys-Dowmunt et al. 2018, arXiv:1804.00344 (Opus-MT)."""

from dataclasses import replace

from triform import spec
from triform.families import bart
from triform.families.kit.config import Config
from triform.families.kit.family import Family
from triform.families.kit.heads import backbone
from triform.weights import WeightTable


def form(config: Config, architecture: str) -> spec.EncoderDecoder:
    """Return an encoder-decoder as BART's, with sinusoidal positions and no embedding norm."""
    config.expect("normalize_embedding", False)
    config.expect("static_position_embeddings", True)
    config.expect("share_encoder_decoder_embeddings", True)
    config.expect("decoder_vocab_size", config.integer("vocab_size"))
    num_positions = config.integer("max_position_embeddings", 1024)
    position = spec.Sinusoidal(num_positions=num_positions)
    return bart.encoder_decoder(config, position, embedding_norm=None, context_length=num_positions)


def weights(model: spec.Model) -> WeightTable:
    """Return the weight table. Some checkpoints also hold the sinusoids."""
    table = bart.weights(model)
    return replace(table, ignored=(*table.ignored, "encoder.embed_positions.weight", "decoder.embed_positions.weight"))


FAMILY = Family(
    model_type="marian",
    architectures={"MarianModel": backbone, "MarianMTModel": bart.language_head},
    form=form,
    weights=weights,
)
