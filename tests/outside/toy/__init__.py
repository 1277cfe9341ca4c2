"""A package of somebody else's, that adds a thing of each kind to erasejax."""
