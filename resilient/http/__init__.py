"""The HTTP layer, written once against "an httpx-like module"; `resilient.httpx` binds it."""
