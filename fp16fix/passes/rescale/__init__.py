"""One integer program of exponents, and folding them into the graph."""
