"""Mistral 7B. Jiang et al. 2023, arXiv:2310.06825. Llama with sliding-window attention."""

from dataclasses import replace

from triform import spec
from triform.families import llama
from triform.families.kit.config import Config
from triform.families.kit.family import Family
from triform.families.kit.heads import backbone, last_token_head, span_head, token_head
from triform.weights import WeightTable


def form(config: Config, architecture: str) -> spec.Decoder:
    """Return a decoder with a window in all blocks: `sliding_window`, null for none, and 4096 without the key."""
    config.expect("is_encoder_decoder", False)
    config.ignore("tie_word_embeddings")
    window = config.optional_integer("sliding_window") if config.mentions("sliding_window") else 4096
    return llama.decoder(config, windows=[window] * config.num_layers("num_hidden_layers"))


def weights(model: spec.Model) -> WeightTable:
    """Return the weight table. Unlike Llama's, the span head does not change the prefix."""
    return replace(llama.weights(model), prefix="model.")


FAMILY = Family(
    model_type="mistral",
    architectures={
        "MistralModel": backbone,
        "MistralForCausalLM": llama.language_head,
        "MistralForTokenClassification": token_head,
        "MistralForSequenceClassification": last_token_head,
        "MistralForQuestionAnswering": span_head,
    },
    form=form,
    weights=weights,
)
