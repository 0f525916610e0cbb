"""Stripe: what it says happened, what it is asked for, and what its money does to tokens."""
