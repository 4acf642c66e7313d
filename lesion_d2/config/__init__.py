"""Config keys, the schedule they give, and loading them."""
