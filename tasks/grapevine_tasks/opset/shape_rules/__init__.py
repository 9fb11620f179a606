"""The shape rule of every operator: from the types of its arguments to the types of its results. See `common`."""
