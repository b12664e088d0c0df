"""`features` and `degradable` as services get them: without a pipeline, too, they follow the environment's document."""

from __future__ import annotations

from ..flags.degradable import degradable as degradable
from ..flags.features import features as features
from .center import CENTER

CENTER.arm()
