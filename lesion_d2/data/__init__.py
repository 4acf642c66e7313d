"""Data sets as Detectron2 reads them: registration, members, augmentation, loaders."""
