"""Who answers at an address. The same SDK calls many providers, and the same counts mean other things with each."""

from collections.abc import Mapping

# By the end of the host's name. The names are `core.usage.reading`'s.
_HOSTS: Mapping[str, str] = {
    "openai.com": "openai",
    "anthropic.com": "anthropic",
    "azure.com": "azure",
    "azure.us": "azure",
    "azure.cn": "azure",
    "googleapis.com": "google",
    "amazonaws.com": "aws",
    "api.aws": "aws",
    "mistral.ai": "mistral",
    "deepseek.com": "deepseek",
    "groq.com": "groq",
    "x.ai": "x-ai",
    "openrouter.ai": "openrouter",
    "together.xyz": "together",
    "together.ai": "together",
    "fireworks.ai": "fireworks",
    "perplexity.ai": "perplexity",
    "cerebras.ai": "cerebras",
    "cohere.com": "cohere",
    "cohere.ai": "cohere",
    "moonshot.ai": "moonshotai",
    "moonshot.cn": "moonshotai",
    "minimax.io": "minimax",
    "minimaxi.com": "minimax",
    "z.ai": "zai",
    "bigmodel.cn": "zai",
    "novita.ai": "novita",
    "ovh.net": "ovhcloud",
    "databricks.com": "databricks",
    "azuredatabricks.net": "databricks",
    "huggingface.co": "huggingface",
    "githubcopilot.com": "github-copilot",
    "ollama.com": "ollama",
}
# By what a client's class is called, for those behind a host of one's own.
_CLASSES: Mapping[str, str] = {
    "Azure": "azure",
    "Foundry": "azure",
    "Vertex": "google",
    "GoogleCloud": "google",
    "Bedrock": "aws",
    "AnthropicAWS": "aws",
}


def provider_at(host: str) -> str | None:
    """Return who answers at a host; None: nobody that is known here, such as a gateway or a machine of one's own."""
    name = host.lower().rstrip(".")
    while name:
        if name in _HOSTS:
            return _HOSTS[name]
        _, _, name = name.partition(".")
    return None


def provider_of_client(client: object) -> str | None:
    """Return whom a client of one of the SDKs was made for; None: whoever answers at its address."""
    kinds = [kind.__name__ for kind in type(client).__mro__]
    return next((provider for word, provider in _CLASSES.items() if any(word in kind for kind in kinds)), None)
