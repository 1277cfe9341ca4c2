"""Convex losses of linear classifiers, and the solvers that find their optima."""
