"""What trainings and evaluations leave on disk."""
