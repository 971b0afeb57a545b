"""Label, find names and translate with the client of Hugging Face."""

import sys

from huggingface_hub import InferenceClient

url = sys.argv[1]
for label in InferenceClient(f"{url}/models/sentiment").text_classification("The soup was cold."):
    print(f"{label.label}  {label.score:.3f}")
for entity in InferenceClient(f"{url}/models/entities").token_classification(
    "Marie Curie was born in Warsaw.", aggregation_strategy="first"
):
    print(f"{entity.entity_group}  {entity.word}")
print(InferenceClient(f"{url}/models/translation").translation("My cat is sleeping on the sofa.").translation_text)
