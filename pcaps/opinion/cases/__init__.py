"""The cases, by what they are about. Each module's `cases()` yields them."""
