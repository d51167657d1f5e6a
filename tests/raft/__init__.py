"""Tests of consensus: scripts, sentences of the paper, invariants under chance, parts."""
