"""MAT inside training loops that people have."""
