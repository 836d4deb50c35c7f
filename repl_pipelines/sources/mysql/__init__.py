"""MySQL as a source: what it does otherwise than MariaDB, whose folder has the rest."""
