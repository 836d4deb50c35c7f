"""The fixtures of syncs, for what is done to a replication as a whole."""

from tests.sync.conftest import bench, meet

__all__ = ["bench", "meet"]
