"""Mode `log` on MariaDB and MySQL: the binary log, from one GTID position to a snapshot's."""
