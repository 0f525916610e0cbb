"""One account: what it is asked, why its balance is what it is, and whether the books hold."""
