"""Compare texts with the client of Cohere."""

import sys

import cohere
import numpy as np

client = cohere.ClientV2(api_key="none", base_url=sys.argv[1])
texts = ["A cat sat on the mat.", "A kitten lay on the rug.", "Shares fell again."]
answer = client.embed(model="default", texts=texts, input_type="clustering", embedding_types=["float"])
vectors = np.array(answer.embeddings.float_)
for text, similarity in zip(texts, vectors @ vectors[0], strict=True):
    print(f"{similarity:.2f}  {text}")
