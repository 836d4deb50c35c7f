"""What MariaDB's values become: round trips through its server, the lake and both replicas."""
