"""Images and masks from files: reading, orientation, run lengths, signatures."""
