"""From a model's instances to one lesion an image: views, choice, post-processing, confidence."""
