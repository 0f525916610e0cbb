"""Jobs: what falls due with time, and nobody asks for."""
