"""Stripe's money and our books, compared."""
