"""Mistral 7B. Jiang et al. 2023, arXiv:2310.06825. Llama, each token seeing a window of those before it."""

from dataclasses import replace

from triform import spec
from triform.families import llama
from triform.families.kit.config import Config
from triform.families.kit.family import Family
from triform.families.kit.heads import backbone, last_token_head, span_head, token_head
from triform.weights import WeightTable


def form(config: Config, architecture: str) -> spec.Decoder:
    """Version 0.2 and later say null: no window. A config that does not mention it means 4096."""
    config.expect("is_encoder_decoder", False)
    config.ignore("tie_word_embeddings")
    window = config.optional_integer("sliding_window") if config.mentions("sliding_window") else 4096
    return llama.decoder(config, windows=[window] * config.num_layers("num_hidden_layers"))


def weights(model: spec.Model) -> WeightTable:
    """The names of the tensors; with a head for spans they stand behind the same prefix as with any other."""
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
