"""Stripe's edge: webhooks as Stripe signs them, and events as people keep them in files."""
