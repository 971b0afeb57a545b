"""Search among texts with LangChain."""

import sys

from langchain_core.vectorstores import InMemoryVectorStore
from langchain_openai import OpenAIEmbeddings

embeddings = OpenAIEmbeddings(
    base_url=f"{sys.argv[1]}/v1",
    api_key="none",
    model="default",
    check_embedding_ctx_length=False,  # send texts, not ids of OpenAI's vocabulary
)
store = InMemoryVectorStore.from_texts(
    ["The ferry leaves at seven.", "The cat sleeps on the sofa.", "Bread is baked every morning."], embeddings
)
for document in store.similarity_search("When can we cross to the island?", k=1):
    print(document.page_content)
