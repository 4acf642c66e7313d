"""The leak search: images of one split that show what an image of another split shows."""
