"""An hour of everything going wrong at once; see `__main__.py`."""
