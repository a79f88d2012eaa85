"""The version, in a module without imports: setup.cfg and every part read it from here."""

__version__ = "0.1.0"
