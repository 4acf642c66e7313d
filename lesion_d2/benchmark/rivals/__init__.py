"""What others would use, written as its documentation or its users write it."""
