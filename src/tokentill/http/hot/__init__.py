"""The hot routes: what every AI call of an app asks, answered before the framework has begun."""
