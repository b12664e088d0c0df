"""Celery tasks that have one effect each, however often they are delivered."""
