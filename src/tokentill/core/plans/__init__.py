"""What is sold, and how the cycles of a subscription fall due."""
