"""Schedules: tasks that are handed in again and again, at the times of a cron expression in a time zone."""
