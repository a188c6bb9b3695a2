"""TensorRT flavours, one file each: a ``FLAVOUR`` that says what it is, and an ``assembly`` that parses and builds with it."""
