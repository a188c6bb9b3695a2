"""How long repairs take, and on what: see ``__main__``."""
