"""Plans: the catalog in force, and the cycles that subscriptions are given."""
