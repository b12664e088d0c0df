"""OpenAI's and Anthropic's SDKs on resilient clients, against servers on loopback that speak their API and fail."""
