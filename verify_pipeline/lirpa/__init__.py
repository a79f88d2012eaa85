"""An adapter to auto_LiRPA that works with release 0.3 from PyPI and with current releases.

auto_LiRPA: Xu et al. 2020 (arXiv:2002.12920).
"""

from verify_pipeline.lirpa.bounder import AutoLirpaBounder
from verify_pipeline.lirpa.shims import Lirpa, load

__all__ = ["AutoLirpaBounder", "Lirpa", "load"]
