"""What Stripe's payloads mean, and what Stripe is asked to make."""
