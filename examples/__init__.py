"""Programs to run and to copy from: `python -m examples.llm`, `python -m examples.demo`, and so on."""
