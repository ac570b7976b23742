"""Reproductions of published speed claims, one module a claim."""
