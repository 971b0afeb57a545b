"""vocab.json: the tokens of a vocabulary and their ids."""

from pathlib import Path

from triform import strict_json
from triform.errors import TokenizerError
from triform.inputs.text.tokenizer_settings import is_id


def read_vocabulary(path: Path) -> dict[str, int]:
    """Read the vocabulary: token → id.

    Raises:
        TokenizerError: the file is missing, no JSON, or holds something else.
    """
    try:
        content = strict_json.read(path)
    except FileNotFoundError as error:
        raise TokenizerError(f"{path.parent} has no {path.name}, which numbers the tokens. Fetch it.") from error
    except (OSError, ValueError) as error:
        raise TokenizerError(f"{path} is damaged: {error}. Fetch the file again.") from error
    if not isinstance(content, dict) or not content or not all(map(is_id, content.values())):
        raise TokenizerError(f"{path}: expected a JSON object of tokens and their ids. Fetch the file again.")
    return content
