"""What an AI call costs us, and what it takes from its user."""
