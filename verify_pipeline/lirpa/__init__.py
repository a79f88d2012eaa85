"""auto_LiRPA behind one adapter that works with release 0.3 of PyPI and with current ones."""

from verify_pipeline.lirpa.bounder import AutoLirpaBounder
from verify_pipeline.lirpa.shims import Lirpa, load

__all__ = ["AutoLirpaBounder", "Lirpa", "load"]
