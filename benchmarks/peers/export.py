"""A BERT as an ONNX graph from ids to mean-pooled vectors.

Attention is written out in the form whose patterns the optimizers of ONNX Runtime and OpenVINO know how to fuse; what
transformers itself would export, with masks made by indexing, they do not.
"""

import warnings
from pathlib import Path
from typing import Any

import torch
import transformers

HIDDEN = -10000.0
"""Added to the scores of padding: the number that the fusions look for."""


class MeanPooledBert(torch.nn.Module):  # type: ignore[misc]
    """The modules of a BERT of transformers, called in the classic order."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Compute the mean-pooled vectors (texts, hidden_size) from ids and mask, (texts, longest) each."""
        positions = torch.arange(input_ids.shape[1])[None]
        states = self.model.embeddings(
            input_ids=input_ids, token_type_ids=torch.zeros_like(input_ids), position_ids=positions
        )
        bias = (1.0 - attention_mask[:, None, None, :].to(torch.float32)) * HIDDEN
        for layer in self.model.encoder.layer:
            attended = layer.attention.output(_attend(layer.attention.self, states, bias), states)
            states = layer.output(layer.intermediate(attended), attended)
        weights = attention_mask[..., None].to(torch.float32)
        return (states * weights).sum(1) / weights.sum(1)


def export_encoder(checkpoint: Path, file: Path) -> Any:
    """Write the graph.

    Returns:
        The config of the model.
    """
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    model = transformers.AutoModel.from_pretrained(checkpoint, dtype=torch.float32, add_pooling_layer=False)
    example = torch.ones((2, 8), dtype=torch.int64)
    with warnings.catch_warnings(action="ignore"):
        torch.onnx.export(
            MeanPooledBert(model).eval(),
            (example, example),
            str(file),
            dynamo=False,  # the other exporter needs further packages, and writes graphs that fuse less
            opset_version=17,
            input_names=["input_ids", "attention_mask"],
            output_names=["vectors"],
            dynamic_axes={name: {0: "texts", 1: "longest"} for name in ("input_ids", "attention_mask")},
        )
    return model.config


def _attend(attention: Any, states: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    heads, head_dim = attention.num_attention_heads, attention.attention_head_size

    def split(projected: torch.Tensor) -> torch.Tensor:
        return projected.view((*projected.size()[:-1], heads, head_dim)).permute(0, 2, 1, 3)

    query, key, value = (split(linear(states)) for linear in (attention.query, attention.key, attention.value))
    scores = torch.matmul(query, key.transpose(-1, -2)) / head_dim**0.5 + bias
    mixed = torch.matmul(torch.softmax(scores, -1), value).permute(0, 2, 1, 3).contiguous()
    return mixed.view((*mixed.size()[:-2], heads * head_dim))
