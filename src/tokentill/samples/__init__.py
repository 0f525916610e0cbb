"""What AI providers and Stripe send, built by hand: for the demo, the benches and the tests."""
