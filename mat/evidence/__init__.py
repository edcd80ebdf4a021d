"""From run directories to tables, statistics and verdicts; reads files only and never imports torch."""

import pandas as pd

# tables are small and read row by row, where a cell of an Arrow array costs more than all else
pd.set_option("mode.string_storage", "python")
