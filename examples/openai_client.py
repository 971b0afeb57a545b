"""Stream a story with the client of OpenAI."""

import sys

import openai

client = openai.OpenAI(base_url=f"{sys.argv[1]}/v1", api_key="none")
for event in client.completions.create(
    model="story", prompt="Once upon a time", max_tokens=60, temperature=0.7, seed=7, stream=True
):
    print(event.choices[0].text, end="", flush=True)
print()
