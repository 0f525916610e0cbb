"""The JSON API: translates requests into what the till is asked, and its answers and errors into responses."""
