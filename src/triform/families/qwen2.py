"""Qwen2 Technical Report. Yang et al. 2024, arXiv:2407.10671. Llama with biases on query, key and value."""

from triform import spec
from triform.families import llama
from triform.families.kit.config import Config
from triform.families.kit.family import Family
from triform.families.kit.heads import backbone, last_token_head, span_head, token_head


def form(config: Config, architecture: str) -> spec.Decoder:
    """Return a decoder with an attention window in some blocks, if config.json asks for windows."""
    return llama.decoder(config, biases=frozenset({"query", "key", "value"}), windows=windows(config))


def windows(config: Config) -> list[int | None]:
    """Return the window of each block: by `layer_types`, or in older configs from block `max_window_layers` on."""
    config.expect("is_encoder_decoder", False)
    config.expect("use_mrope", False)
    config.ignore("tie_word_embeddings")
    window = config.optional_integer("sliding_window")
    window = window if config.boolean("use_sliding_window", False) else None
    num_layers, first = config.num_layers("num_hidden_layers"), config.integer("max_window_layers", 28, minimum=0)
    types = config.strings("layer_types", ()) or [
        "sliding_attention" if window is not None and layer >= first else "full_attention"
        for layer in range(num_layers)
    ]
    if len(types) != num_layers or not {*types} <= {"full_attention", "sliding_attention"}:
        config.refuse("layer_types", f"full_attention or sliding_attention for each of {num_layers} layers")
    if window is None and "sliding_attention" in types:
        config.refuse("layer_types", "full_attention alone, since use_sliding_window and sliding_window give no window")
    return [window if kind == "sliding_attention" else None for kind in types]


FAMILY = Family(
    model_type="qwen2",
    architectures={
        "Qwen2Model": backbone,
        "Qwen2ForCausalLM": llama.language_head,
        "Qwen2ForTokenClassification": token_head,
        "Qwen2ForSequenceClassification": last_token_head,
        "Qwen2ForQuestionAnswering": span_head,
    },
    form=form,
    weights=llama.weights,
)
