"""What a scale would cost, before anything is run."""
