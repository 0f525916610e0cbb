"""The store: the only SQL. One module per table or two; each function says what it reads or writes."""
