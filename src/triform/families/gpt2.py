"""Language Models are Unsupervised Multitask Learners. Radford et al. 2019 (GPT-2)."""

from triform import spec
from triform.families.kit.attention import scaled_attention
from triform.families.kit.config import Config
from triform.families.kit.family import Family
from triform.families.kit.heads import backbone, last_token_head, span_head, token_head
from triform.families.kit.initialization import by_range_and_depth
from triform.weights import Rename, Split, Transpose, WeightTable


def form(config: Config, architecture: str) -> spec.Decoder:
    """Return a decoder with pre-norms, learned positions and biases in all linears."""
    config.expect("is_encoder_decoder", False)
    config.expect("add_cross_attention", False)
    config.expect("scale_attn_weights", True)
    config.expect("scale_attn_by_inverse_layer_idx", False)
    # The summary keys belong to the double-heads model; `reorder_and_upcast_attn` concerns half precision.
    config.ignore("summary_type", "summary_use_proj", "summary_activation", "summary_proj_to_labels")
    config.ignore("summary_first_dropout", "reorder_and_upcast_attn", "tie_word_embeddings", "n_ctx")
    norm = spec.LayerNorm(eps=config.number("layer_norm_epsilon", 1e-5))
    hidden_size, num_heads = config.integer("n_embd", 768), config.integer("n_head", 12)
    head_dim = config.quotient("n_embd", "n_head")
    dropout = config.rate("resid_pdrop", 0.1)
    attention = scaled_attention(num_heads, head_dim, spec.Causal(), dropout=config.rate("attn_pdrop", 0.1))
    feed_forward = spec.FeedForward(
        intermediate_size=config.optional_integer("n_inner") or 4 * hidden_size,
        activation=config.activation("activation_function", "gelu_new"),
        bias=True,
    )
    num_positions = config.integer("n_positions", 1024)
    cores = (attention, feed_forward)
    block = tuple(spec.Residual(core=core, pre_norm=norm, dropout=dropout) for core in cores)
    return spec.Decoder(
        stack=spec.Stack(
            embedding=spec.TokenEmbedding(
                vocab_size=config.integer("vocab_size"),
                hidden_size=hidden_size,
                position=spec.Learned(num_positions=num_positions),
                dropout=config.rate("embd_pdrop", 0.1),
            ),
            blocks=(block,) * config.num_layers("n_layer", 12),
            final_norm=norm,
            context_length=num_positions,
        )
    )


def language_head(config: Config) -> spec.LanguageHead:
    """Return the head for the next token."""
    return spec.LanguageHead(tied=config.boolean("tie_word_embeddings", True))


def weights(model: spec.Model) -> WeightTable:
    """Return the weight table. Linears are stored (in, out), and query, key and value in one tensor."""
    in_out, fused = (Transpose(),), (Transpose(), Split((1, 1, 1)))
    query_key_value = (f"blocks.*.attention.{part}.*" for part in ("query", "key", "value"))
    # The classifier of tokens and the classifier of sequences have different names.
    classifiers = ("classifier", "score") if isinstance(model.head, spec.TokenHead) else ("score", "classifier")
    # fmt: off
    return WeightTable(
        prefix="transformer.",
        rules=(
            Rename("wte.weight",         "embedding.word.weight"),
            Rename("wpe.weight",         "embedding.position.weight"),
            Rename("h.*.ln_1.*",         "blocks.*.attention.pre_norm.*"),
            Rename("h.*.attn.c_attn.*",  *query_key_value, layout=fused),
            Rename("h.*.attn.c_proj.*",  "blocks.*.attention.output.*", layout=in_out),
            Rename("h.*.ln_2.*",         "blocks.*.feed_forward.pre_norm.*"),
            Rename("h.*.mlp.c_fc.*",     "blocks.*.feed_forward.up.*", layout=in_out),
            Rename("h.*.mlp.c_proj.*",   "blocks.*.feed_forward.down.*", layout=in_out),
            Rename("ln_f.*",             "final_norm.*"),
        ),
        heads=(
            Rename("lm_head.weight",     "language_head.weight"),
            *(Rename(f"{name}.*",        "classification_head.*") for name in classifiers),
            Rename("qa_outputs.*",       "span_head.*"),
        ),
        ignored=("h.*.attn.bias", "h.*.attn.masked_bias", "multiple_choice_head.*"),
    )
    # fmt: on


FAMILY = Family(
    model_type="gpt2",
    architectures={
        "GPT2Model": backbone,
        "GPT2LMHeadModel": language_head,
        "GPT2ForTokenClassification": token_head,
        "GPT2ForSequenceClassification": last_token_head,
        "GPT2ForQuestionAnswering": span_head,
    },
    form=form,
    weights=weights,
    initialization=by_range_and_depth,
)
