"""Mode `log` on MariaDB: the binary log, read from one GTID position to that of a snapshot."""
