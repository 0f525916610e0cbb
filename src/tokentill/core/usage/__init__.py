"""What an AI call used: from a provider's response to pools."""
