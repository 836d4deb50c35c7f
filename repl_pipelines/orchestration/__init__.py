"""Replications as Dagster sees them: assets, checks, jobs, schedules, resources."""
