"""MySQL's binary log, where it is another one than MariaDB's."""
