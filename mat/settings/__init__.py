"""Settings read strictly: records from plain values, and YAML files, each mistake one line that names its place."""
