"""Speed, as ratios against peers and limits that ran in the same minutes; see README.md."""
