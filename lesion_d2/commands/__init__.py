"""What each tool does, step by step."""
