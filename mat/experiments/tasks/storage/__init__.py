"""Where data comes from and is kept: mirrors, downloads, caches, Parquet."""
