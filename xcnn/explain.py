"""What a trained network looks at: class activation maps, saliency, occlusion, features."""

from __future__ import annotations
